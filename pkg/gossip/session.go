package gossip

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"k8s.io/klog/v2"
)

// What memberlist goes by. A member probes one other every interval, in random order. One that answers neither itself nor
// through another within that interval is suspect, and dead after suspicionMult times max(1, log10(members)) more intervals in
// which it did not object (suspicionTimeout in memberlist's util.go). So it takes seconds to notice that one is gone, and costs
// little: where five members of one processor each probed twelve times a second, and by TCP and through three others whatever
// was late, half of it was gone at rest and all of it when anything happened. What must be noticed sooner is watched.
const (
	probeInterval = 500 * time.Millisecond
	suspicionMult = 2
	// probeTimeout is when another is asked to try. Its nack is sent a timeout after that and must come within the interval,
	// or this member thinks that it is slow itself and takes more time for every probe.
	probeTimeout   = 200 * time.Millisecond
	indirectChecks = 1
	// maxSlowdown is by how much a member that finds itself slow stretches the interval, less one.
	maxSlowdown = 8
	// gossipInterval is how often news are passed on, to this many others.
	gossipInterval = 100 * time.Millisecond
	gossipNodes    = 3
	// pushPullInterval is how often the whole state is compared with one other's.
	pushPullInterval = 10 * time.Second
	// gossipToTheDead is for how long the dead get news, such as that they are held dead, and are remembered.
	gossipToTheDead = 10 * time.Second
	// reclaimAfter is how long the name of a dead member belongs to its address: a node may come back with another one.
	reclaimAfter = time.Millisecond
	// streamTimeout bounds an exchange by TCP: two SYNs.
	streamTimeout = 2 * time.Second
)

// session is the membership as long as this node has one address.
type session struct {
	*Gossip
	ctx      context.Context
	at       netip.AddrPort
	ready    chan struct{} // closed when list is set
	list     *memberlist.Memberlist
	work     sync.WaitGroup
	patience *patience

	// Of what follows Gossip.mu is the lock.
	ended    bool
	joining  map[string]bool
	failed   map[string]int // attempts in a row at joining a peer that listens
	expected map[uint64]*question
	desk     desk
	storms   chan struct{} // room for thorough probes at once
}

// serve binds the port and takes part until the context ends or the node's address changes.
func (g *Gossip) serve(ctx context.Context, addr netip.Addr) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	s := &session{
		Gossip: g, ctx: ctx, at: netip.AddrPortFrom(addr, uint16(g.config.Port)),
		ready: make(chan struct{}), joining: map[string]bool{}, failed: map[string]int{}, expected: map[uint64]*question{}, desk: newDesk(), storms: make(chan struct{}, stormsAtOnce),
		patience: newPatience(g.config.Clock),
	}
	g.mu.Lock()
	clear(g.peers)
	g.mu.Unlock()
	list, err := memberlist.Create(s.listConfig())
	if err != nil {
		return fmt.Errorf("bind %s by UDP and TCP: %w", s.at, err)
	}
	s.list = list
	close(s.ready)
	g.session.Store(s)
	klog.FromContext(ctx).Info("Gossip starts", "address", s.at)
	s.mu.Lock()
	s.start(s.watch)
	s.mu.Unlock()
	s.join(addr)
	g.session.Store(nil)
	stop()
	s.end()
	return nil
}

// end stops what runs, within bounds.
func (s *session) end() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.list.Shutdown(); err != nil {
			klog.FromContext(s.ctx).Error(err, "Cannot end gossip in order")
		}
		s.work.Wait()
	}()
	timer := time.NewTimer(exitWithin)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// start runs f on a goroutine that the session waits for, unless it has ended. Gossip.mu is held.
func (s *session) start(f func()) {
	if !s.ended {
		s.work.Go(func() {
			<-s.ready
			f()
		})
	}
}

func (s *session) listConfig() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = s.config.Node
	c.BindAddr, c.BindPort = s.at.Addr().String(), int(s.at.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.Keyring = s.keys.ring
	c.Logger = log.New(io.Discard, "", 0)
	if logger := klog.FromContext(s.ctx).V(4); logger.Enabled() { // it tells of every packet that is late
		c.Logger = log.New(logWriter{logger}, "", 0)
	}
	c.Delegate, c.Events, c.Conflict, c.Ping = (*messages)(s), (*events)(s), (*events)(s), s.patience
	c.EnableCompression = false // of some hundred bytes
	c.ProbeInterval, c.ProbeTimeout, c.IndirectChecks = probeInterval, probeTimeout, indirectChecks
	c.DisableTcpPings = true // whom it holds dead is dialled anyway
	c.SuspicionMult = suspicionMult
	c.AwarenessMaxMultiplier = maxSlowdown
	c.GossipInterval, c.GossipNodes = gossipInterval, gossipNodes
	c.GossipToTheDeadTime, c.DeadNodeReclaimTime = gossipToTheDead, reclaimAfter
	c.PushPullInterval, c.TCPTimeout = pushPullInterval, streamTimeout
	return c
}

// logWriter takes memberlist's log.
type logWriter struct{ logger klog.Logger }

func (w logWriter) Write(line []byte) (int, error) {
	w.logger.Info(strings.TrimSpace(string(line)))
	return len(line), nil
}
