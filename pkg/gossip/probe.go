package gossip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// A probe sends questions close to each other and waits for one answer.
const (
	dialEach = 8 // pings: the first SYN may be lost as well, and TCP sends the next a second later
	// lateAllowed is by how much this process may wake up late: one that is stopped, or has no processor, finds its time
	// over with answers still unread.
	lateAllowed = 100 * time.Millisecond
	// listenEvery is how often that is looked at when all questions are sent.
	listenEvery = 25 * time.Millisecond
	// stormsAtOnce bounds thorough probes: if many peers are in doubt it is more likely this node that is in trouble.
	stormsAtOnce = 3
)

// effort is how many questions a probe sends, and how far apart if it lasts for probeFor; more where it lasts longer.
type effort struct {
	pings int
	every time.Duration
}

var (
	// thorough is for a verdict. Where one question in three has no answer and the others take up to 400 ms (both ways 20 %
	// loss and a delay of 0 to 200 ms), about one in 10^9 probes of a peer that lives fails.
	thorough = effort{pings: 40, every: 3 * time.Millisecond}
	// gentle goes first where the membership was wrong a moment ago: where a network or a processor is overloaded already, a
	// storm of questions would be what keeps it so.
	gentle = effort{pings: 5, every: 50 * time.Millisecond}
	// single is for one that is held dead.
	single = effort{pings: 1, every: listenEvery}
)

// outcome of a probe.
type outcome int

const (
	answered outcome = iota
	refused          // the peer's kernel says that nobody listens on the port
	silent
	unclear // this process was too slow to tell, or is stopping
)

// probe asks a peer for a sign of life.
func (s *session) probe(name string, at netip.AddrPort, effort effort) outcome {
	if effort == thorough {
		select {
		case s.storms <- struct{}{}:
			defer func() { <-s.storms }()
		case <-s.ctx.Done():
			return unclear
		}
	}
	length := s.patience.length()
	every := effort.every * (length / time.Millisecond) / (probeFor / time.Millisecond)
	ctx, cancel := context.WithTimeout(s.ctx, length)
	d := dials{to: at, results: make(chan error, effort.pings)}
	defer d.work.Wait()
	defer cancel()
	q := s.expect(name)
	defer s.forget(q)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	wake, late := s.config.Clock(), false
	awake := func() {
		now := s.config.Clock()
		if slept := now - wake - every; slept > lateAllowed {
			late = true
			s.patience.observe(slept)
		}
		wake = now
	}
	for sent := 0; ; {
		if sent < effort.pings {
			s.send(name, at, message{Kind: kindPing, Nonce: q.nonce})
			if sent%dialEach == 0 {
				d.dial(ctx)
			}
			if sent++; sent == effort.pings {
				ticker.Reset(listenEvery)
			}
		}
		select {
		case <-q.answered:
			return answered
		case err := <-d.results:
			if errors.Is(err, syscall.ECONNREFUSED) {
				return refused
			}
			d.listens = d.listens || err == nil
		case <-ticker.C:
		case <-ctx.Done():
			if awake(); late || s.ctx.Err() != nil {
				return unclear
			}
			return silent
		}
		awake()
	}
}

// dials are attempts at connecting during a probe.
type dials struct {
	to      netip.AddrPort
	results chan error
	listens bool // one was accepted: others would be
	work    sync.WaitGroup
}

func (d *dials) dial(ctx context.Context) {
	if !d.listens {
		d.work.Go(func() { d.results <- dial(ctx, d.to) })
	}
}

// dial tries whether somebody listens, and hangs up.
func dial(ctx context.Context, at netip.AddrPort) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	return conn.Close()
}
