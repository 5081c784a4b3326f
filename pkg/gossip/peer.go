package gossip

import (
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"k8s.io/klog/v2"
)

const (
	// doubtEvery is how often a peer is probed that answers although memberlist holds it dead.
	doubtEvery = 300 * time.Millisecond
	// deadEvery is how often one is probed that is held dead.
	deadEvery = 500 * time.Millisecond
	// doubtFor is for how long a doubt makes for another.
	doubtFor = 10 * time.Second
	// silences is how many probes in a row must go unanswered until a machine that refused connections is held silent: on
	// a bad network one may be.
	silences = 3
	// hungFor is for how long a peer may be silent whose machine takes connections for it. With the half second that was spent before,
	// that is less than the least that the kernel leaves the VIPs of one that is frozen, and serves them: 2 s from when their lives
	// were prolonged last, half a second before it froze at most.
	hungFor = 800 * time.Millisecond
)

// peer is another node that was heard of. Gossip.mu is its lock.
type peer struct {
	name       string
	at         netip.AddrPort
	state      State
	listed     bool          // memberlist holds it alive
	confirming bool          // a goroutine probes it
	gone       bool          // there is no such node any more
	hung       time.Duration // when it was first found to be, while it is held alive
	silent     int           // probes in a row that a machine which refused connections did not answer
	fell       bool          // it was held dead since the probing began
	doubted    time.Duration // when it last answered a probe while it was held alive
	watch      vigil
	kick       chan struct{}
}

// events are memberlist's callbacks. Its lock is held in them: none may call it.
type events session

// NotifyJoin tells of a member that is alive, by its own word or by hearsay.
func (e *events) NotifyJoin(node *memberlist.Node) {
	if node.Name == e.config.Node {
		return
	}
	e.mu.Lock()
	p, known := e.peers[node.Name]
	if !known {
		p = &peer{name: node.Name, state: State{Alive: true}, kick: make(chan struct{}, 1)}
		e.peers[node.Name] = p
	}
	p.at, p.listed = addrPort(node), true
	delete(e.failed, node.Name)
	e.count()
	e.mu.Unlock()
	// Hearsay may be older than a verdict: only an answer of its own makes one that is held dead alive.
	poke(p.kick)
	if !known {
		e.config.Notify()
	}
}

// NotifyLeave tells of a member that memberlist holds dead. None says goodbye, so none has left otherwise.
func (e *events) NotifyLeave(node *memberlist.Node) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p, known := e.peers[node.Name]
	if !known {
		return
	}
	p.listed = false
	(*session)(e).begin(p)
}

// NotifyUpdate is for metadata, of which members have none.
func (e *events) NotifyUpdate(*memberlist.Node) {}

// NotifyConflict tells of a member that claims the name of another one that is alive. It is let in when that one is dead.
func (e *events) NotifyConflict(existing, other *memberlist.Node) {
	klog.FromContext(e.ctx).V(2).Info("Two addresses claim to be one node: is --node-name the same on two, or has it a new address?",
		"peer", existing.Name, "address", addrPort(existing), "other", addrPort(other))
}

func addrPort(node *memberlist.Node) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(node.Addr)
	return netip.AddrPortFrom(addr.Unmap(), node.Port)
}

func poke(kick chan struct{}) {
	select {
	case kick <- struct{}{}:
	default:
	}
}

// begin begins to probe a peer unless it is being probed. Gossip.mu is held.
func (s *session) begin(p *peer) {
	if !p.confirming {
		p.confirming = true
		s.start(func() { s.confirm(p) })
	}
}

// confirm probes a peer until it answers and memberlist holds it alive, too.
func (s *session) confirm(p *peer) {
	for s.ctx.Err() == nil {
		s.mu.Lock()
		at, effort := p.at, p.effort(s.config.Clock())
		s.mu.Unlock()
		result := s.probe(p.name, at, effort)
		if (result == silent || result == unheard) && effort == gentle {
			result = s.probe(p.name, at, thorough)
		}
		wait, done := s.settle(p, result)
		if done {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-s.ctx.Done():
		case <-p.kick:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// effort is what a probe of the peer is worth now. Gossip.mu is held.
func (p *peer) effort(now time.Duration) effort {
	switch {
	case p.state.Refused:
		return thorough
	case !p.state.Alive: // it is silent already: nothing has to be made sure
		return single
	case p.hung > 0:
		return gentle
	case p.doubted > 0 && now-p.doubted < doubtFor:
		return gentle
	}
	return thorough
}

// settle takes a probe's outcome, and says how long to wait for the next one or that none is needed.
func (s *session) settle(p *peer, result outcome) (wait time.Duration, done bool) {
	if s.ctx.Err() != nil {
		return 0, true
	}
	s.mu.Lock()
	before, at := p.state, p.at
	after, wait := p.after(result, s.config.Clock())
	p.state = after
	done = p.gone || after.Alive && p.listed && p.hung == 0
	p.confirming = !done
	p.fell = p.fell && !done
	s.count()
	s.mu.Unlock()
	s.config.Metrics.probed(before, after)
	if after == before {
		return wait, done
	}
	logger := klog.FromContext(s.ctx)
	switch {
	case after.Alive:
		logger.Info("A peer is alive again", "peer", p.name, "address", at)
	case after.Refused:
		logger.Info("A peer is held dead", "peer", p.name, "address", at, "reason", "its node lives and refuses connections: the speaker ended")
	case after.Alone:
		logger.Info("A peer is held dead", "peer", p.name, "address", at, "reason", "its node is silent, and so are most others")
	default:
		logger.Info("A peer is held dead", "peer", p.name, "address", at, "reason", "its node is silent")
	}
	s.config.Notify()
	return wait, done
}

// after is the state that follows a probe's outcome, and how long it is good for.
func (p *peer) after(result outcome, now time.Duration) (State, time.Duration) {
	state := p.state
	if result == hung && state.Alive && (p.hung == 0 || now-p.hung < hungFor) {
		if p.hung == 0 {
			p.hung = now
		}
		return state, 0
	}
	p.hung = 0
	if result == answered {
		p.silent = 0
		if !p.fell {
			p.doubted = now
		}
		state.Alive, state.Dead, state.Refused, state.Alone = true, 0, false, false
		return state, doubtEvery
	}
	if state.Alive {
		state.Alive, state.Dead, state.Alone = false, now, result == unheard
		p.fell = true
	}
	if result == refused {
		p.silent = 0
		state.Refused, state.Alone = true, false
		return state, deadEvery
	}
	if p.silent++; p.silent >= silences {
		state.Refused = false
	}
	if state.Refused {
		return state, 0
	}
	return state, deadEvery
}
