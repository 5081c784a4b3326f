package gossip

import (
	"net/netip"
	"testing"
	"time"
)

func TestProbesLastAsLongAsAnswersAreSlow(t *testing.T) {
	const ms = time.Millisecond
	now := time.Hour
	p := newPatience(func() time.Duration { return now })
	for _, step := range []struct {
		name        string
		after, took time.Duration
		want        time.Duration
	}{
		{"one quick answer says little", 0, ms, 400 * ms},
		{"many do", 21 * time.Second, ms, 300 * ms},
		{"a slow one", time.Second, 200 * ms, 400 * ms},
		{"a quick one does not make up for it", time.Second, ms, 400 * ms},
		{"nor in the next window", 9 * time.Second, ms, 400 * ms},
		{"nobody waits for ever", time.Second, 10 * time.Second, 900 * ms},
		{"it is not forgotten yet", 10 * time.Second, ms, 900 * ms},
		{"it is forgotten", 11 * time.Second, ms, 300 * ms},
		{"a slow one before a long silence", 0, 200 * ms, 400 * ms},
		{"is forgotten after it", time.Minute, 0, 300 * ms},
	} {
		now += step.after
		p.observe(step.took)
		if got := p.length(); got != step.want {
			t.Errorf("%s: a probe lasts %s, want %s", step.name, got, step.want)
		}
	}
}

func TestAPeerThatComesBackDoesNotTellHowSlowAnswersAre(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		name  string
		alive bool
		want  time.Duration
	}{
		{"of one that is held dead", false, 300 * ms},
		{"of one that lives", true, 800 * ms},
	} {
		now := time.Hour
		clock := func() time.Duration { return now }
		s := &session{
			Gossip:   &Gossip{config: Config{Clock: clock}, peers: map[string]*peer{"n2": {name: "n2", state: State{Alive: test.alive}}}},
			expected: map[uint64]*question{}, patience: newPatience(clock),
		}
		now += time.Minute
		q := s.expect("n2", netip.AddrPort{})
		now += 400 * ms
		s.answer(message{Kind: kindPong, From: "n2", Nonce: q.nonce})
		if got := s.patience.length(); got != test.want {
			t.Errorf("after a late answer %s a probe lasts %s, want %s", test.name, got, test.want)
		}
	}
}
