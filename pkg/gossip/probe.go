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
	probeFor    = 300 * time.Millisecond
	dialEach    = 4 // pings: the first SYN may be lost as well, and TCP sends the next a second later
	lateAllowed = 100 * time.Millisecond
)

// effort is how many questions a probe sends, and how far apart.
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
	single = effort{pings: 1, every: probeFor}
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
	started := s.config.Clock()
	ctx, cancel := context.WithTimeout(s.ctx, probeFor)
	var dials sync.WaitGroup
	defer dials.Wait()
	defer cancel()
	q := s.expect(name)
	defer s.forget(q)
	refusals := make(chan struct{}, effort.pings)
	ticker := time.NewTicker(effort.every)
	defer ticker.Stop()
	sent := 0
	for {
		if sent < effort.pings {
			s.send(name, at, message{Kind: kindPing, Nonce: q.nonce})
			if sent%dialEach == 0 {
				dials.Go(func() {
					if errors.Is(dial(ctx, at), syscall.ECONNREFUSED) {
						refusals <- struct{}{}
					}
				})
			}
			sent++
		}
		select {
		case <-q.answered:
			return answered
		case <-refusals:
			return refused
		case <-ticker.C:
			continue
		case <-ctx.Done():
		}
		// A process that was stopped, or had no processor, finds its time over with answers still unread.
		if s.ctx.Err() != nil || sent < effort.pings || s.config.Clock()-started > probeFor+lateAllowed {
			return unclear
		}
		return silent
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
