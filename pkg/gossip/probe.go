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
	// lateAllowed is how late a look at the time may come. Where processors are that scarce the peer may lack one, too: one that
	// came later begins again, but no more often than an effort allows.
	lateAllowed = 200 * time.Millisecond
	// stormsAtOnce bounds thorough probes: if many peers are in doubt it is more likely this node that is in trouble.
	stormsAtOnce = 3
)

// effort is how many questions a probe sends, and how far apart and for how long where answers are quick; more where they are not.
type effort struct {
	pings        int
	every, lasts time.Duration
	lates        int // how often it begins again
}

var (
	// thorough is for a verdict. Where one question in three has no answer and the others take up to 400 ms (both ways 20 %
	// loss and a delay of 0 to 200 ms), about one in 10^9 probes of a peer that lives fails.
	thorough = effort{pings: 40, every: 3 * time.Millisecond, lasts: probeFor, lates: 1}
	// gentle goes first where the membership was wrong a moment ago: where a network or a processor is overloaded already, a
	// storm of questions would be what keeps it so. It waits for as long as the slowest answer took lately: that a machine died
	// is not to be found out much later for it.
	gentle = effort{pings: 5, every: 25 * time.Millisecond, lasts: probeFor / patienceFor}
	// single is for one that is held dead.
	single = effort{pings: 1, every: listenEvery, lasts: probeFor, lates: 1}
)

// outcome of a probe.
type outcome int

const (
	answered outcome = iota
	refused          // the peer's kernel says that nobody listens on the port
	silent
	unheard // silent, and so were most others, or this speaker to itself
	hung    // silent, but its kernel takes connections for it: it is frozen, or waits for a processor
)

// probe asks a peer for a sign of life. What it says when the session ends is of no use.
func (s *session) probe(name string, at netip.AddrPort, effort effort) outcome {
	alone := func() bool { return false }
	if effort == thorough {
		select {
		case s.storms <- struct{}{}:
			defer func() { <-s.storms }()
		case <-s.ctx.Done():
			return silent
		}
		alone = sync.OnceValue(s.witnesses(name))
		defer alone()
	}
	length, every := s.patience.stretch(effort.lasts), s.patience.stretch(effort.every)
	ctx, cancel := context.WithCancel(s.ctx)
	d := dials{to: at, results: make(chan error, effort.pings*(1+effort.lates))}
	defer d.work.Wait()
	defer cancel()
	q := s.expect(name, at)
	defer s.forget(q)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	quiet := s.silence()
	defer quiet.end()
	sent, late := 0, 0
	for sent < effort.pings || !quiet.lasted(length) {
		for ; sent < effort.pings && time.Duration(sent)*every <= quiet.passed; sent++ {
			s.send(name, at, message{Kind: kindPing, Nonce: q.nonce})
			if sent%dialEach == 0 {
				d.dial(ctx)
			}
			if sent == effort.pings-1 {
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
		case <-quiet.heard():
			quiet.confirm()
		case <-ticker.C:
		case <-ctx.Done():
			return silent
		}
		if quiet.look() > lateAllowed && late < effort.lates {
			quiet.begin()
			sent, late = 0, late+1
			ticker.Reset(every)
		}
	}
	return over(q.isAnswered(), alone() || quiet.deaf, d.listens)
}

// over is the outcome when a probe's time is over and nobody refused.
func over(isAnswered, mayBeAlone, listens bool) outcome {
	switch {
	case isAnswered:
		return answered
	case mayBeAlone:
		return unheard
	case listens:
		return hung
	}
	return silent
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
