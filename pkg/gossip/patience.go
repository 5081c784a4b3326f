package gossip

import (
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// probeFor is how long a probe lasts where answers are quick, and probeMost where they are not: patienceFor times the
	// slowest answer that came lately.
	probeFor    = 300 * time.Millisecond
	probeMost   = 900 * time.Millisecond
	patienceFor = 2
	// lately is the time after which a slow answer is forgotten, at the latest twice that.
	lately = 10 * time.Second
	// unknown is how slow answers are taken to be as long as it is not known.
	unknown = 200 * time.Millisecond
)

// patience knows how slow answers of peers that live are: because of the network, or because they or this process lack a processor.
type patience struct {
	clock func() time.Duration

	mu           sync.Mutex
	began        time.Duration // of the window that now belongs to
	now, earlier time.Duration // the slowest of this window and of the one before
}

func newPatience(clock func() time.Duration) *patience {
	return &patience{clock: clock, began: clock(), now: unknown}
}

// observe takes the time that an answer took.
func (p *patience) observe(took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn()
	p.now = max(p.now, took)
}

// turn begins a new window when the last is over.
func (p *patience) turn() {
	switch at := p.clock(); {
	case at-p.began > 2*lately:
		p.began, p.now, p.earlier = at, 0, 0
	case at-p.began > lately:
		p.began, p.now, p.earlier = at, 0, p.now
	}
}

// stretch is how long something should take now that takes d where answers are quick.
func (p *patience) stretch(d time.Duration) time.Duration {
	return d * (p.length() / time.Millisecond) / (probeFor / time.Millisecond)
}

// length is that of a probe now.
func (p *patience) length() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn()
	return min(max(probeFor, patienceFor*max(p.now, p.earlier)), probeMost)
}

// AckPayload and NotifyPingComplete are memberlist's callbacks for its own probes.
func (p *patience) AckPayload() []byte { return nil }

// NotifyPingComplete tells how long an answer took.
func (p *patience) NotifyPingComplete(_ *memberlist.Node, took time.Duration, _ []byte) {
	p.observe(took)
}
