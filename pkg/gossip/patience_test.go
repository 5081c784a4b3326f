package gossip

import (
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
