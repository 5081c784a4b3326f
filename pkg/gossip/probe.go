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

// A probe sends questions close to each other and waits for one answer. Where one question in three has none and the others
// take up to 400 ms (both ways 20 % loss and a delay of 0 to 200 ms), about one in 10^8 probes of a peer that lives fails.
const (
	probePings  = 30
	probeEvery  = 5 * time.Millisecond
	probeFor    = 350 * time.Millisecond
	dialEach    = 3 // pings: the first SYN may be lost as well, and TCP sends the next a second later
	lateAllowed = 100 * time.Millisecond
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
func (s *session) probe(name string, at netip.AddrPort, thorough bool) outcome {
	started := s.config.Clock()
	ctx, cancel := context.WithTimeout(s.ctx, probeFor)
	var dials sync.WaitGroup
	defer dials.Wait()
	defer cancel()
	q := s.expect(name)
	defer s.forget(q)
	pings := 1
	if thorough {
		pings = probePings
	}
	refusals := make(chan struct{}, probePings)
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	sent := 0
	for {
		if sent < pings {
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
		if s.ctx.Err() != nil || sent < pings || s.config.Clock()-started > probeFor+lateAllowed {
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
