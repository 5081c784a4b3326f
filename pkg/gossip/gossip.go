// Package gossip notices within a second that another node's speaker is gone, and asks the others whether the API server
// answers them.
//
// It owns the membership (hashicorp/memberlist, a SWIM with encryption) and one UDP and TCP port of the node. memberlist is
// tuned to be fast and so is often wrong on a bad network: what it holds dead is probed directly before anybody is told. It
// decides nothing about VIPs, and promises no agreement: two nodes may see a third differently.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
)

// Config of a Gossip. Only Metrics may be missing.
type Config struct {
	// Node is the name of this node.
	Node string
	// Address is this node's, IPv4 or IPv6: the one that is bound and that peers are told. It is asked again and again, and
	// is invalid while it is not known.
	Address func() netip.Addr
	// Port for UDP and TCP, the same on all nodes.
	Port int
	// Clock since boot: times in a State are on it.
	Clock func() time.Duration
	// Peers are the addresses of the other nodes by name; this node may be among them. It is asked again and again.
	Peers func() map[string]netip.Addr
	// HasAPI tries the API server now, for a peer that asks, and says whether it answered before the context ended.
	HasAPI func(ctx context.Context) bool
	// Spares is what a peer is told with the answer that the API server does not answer this node: see State.Spared.
	Spares func(peer string) string
	// Notify is called, from any goroutine, after a State changed. It must not block.
	Notify  func()
	Metrics *Metrics
}

// State is what is known of a peer.
type State struct {
	// Alive is false while the peer is held dead.
	Alive bool
	// Dead is since when; 0 while it is alive.
	Dead time.Duration
	// Refused, of a dead one: its kernel answers that nobody listens, so that only the process ended.
	Refused bool
	// Alone, of a dead one that did not refuse: most others did not answer either then. It may be this node that is cut off.
	Alone bool
	// HasAPI is what it said last; Said is when it was asked that, which its answer is later than. 0: it never said.
	HasAPI bool
	Said   time.Duration
	// Spared is what it said with that if it lacks the API server: the epoch of this node's speaker that it cannot have revoked.
	Spared string
}

// Gossip is this node's membership.
type Gossip struct {
	config  Config
	keys    *keys
	session atomic.Pointer[session] // nil while nothing is bound

	rewatch chan struct{} // others are watched now

	mu      sync.Mutex
	peers   map[string]*peer
	watched []string
}

// retryAfter is how long a port that could not be bound waits to be tried again: an IPv6 address may be tentative still.
const retryAfter = time.Second

// exitWithin bounds the end: a connection to a peer that hangs is not waited for.
const exitWithin = 200 * time.Millisecond

// New makes a Gossip. Nothing is bound or sent yet.
func New(config Config) (*Gossip, error) {
	if config.Node == "" || config.Address == nil || config.Clock == nil || config.Peers == nil || config.HasAPI == nil || config.Spares == nil || config.Notify == nil {
		return nil, errors.New("gossip: node, address, clock, peers, hasAPI, spares and notify are required")
	}
	if config.Port < 1 || config.Port > 65535 {
		return nil, fmt.Errorf("gossip port %d: must be 1 to 65535", config.Port)
	}
	return &Gossip{config: config, keys: newKeys(), rewatch: make(chan struct{}, 1), peers: map[string]*peer{}}, nil
}

// SetKeys gives the keys, of 16, 24 or 32 bytes: the first encrypts, all decrypt. There is no gossip before the first call.
// If it fails the keys stay what they were.
func (g *Gossip) SetKeys(keys [][]byte) error { return g.keys.set(keys) }

// Run takes part once there are keys and an address, until the context ends. It says no goodbye: peers see for themselves.
func (g *Gossip) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-g.keys.there:
	}
	logger := klog.FromContext(ctx)
	var complaint string
	for ctx.Err() == nil {
		addr := g.config.Address()
		if addr.IsValid() {
			err := g.serve(ctx, addr.Unmap())
			if err != nil && err.Error() != complaint {
				complaint = err.Error()
				logger.Error(err, "Cannot gossip, dead peers are noticed by their Leases only; trying again", "address", addr, "port", g.config.Port)
			}
			if err == nil {
				complaint = ""
				continue
			}
		}
		sleep(ctx, retryAfter)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Peers are the states of all nodes that were ever heard of and still exist, without this one.
func (g *Gossip) Peers() map[string]State {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make(map[string]State, len(g.peers))
	for name, p := range g.peers {
		out[name] = p.state
	}
	return out
}

// Ask asks all peers that live whether the API server answers them. It does not wait: answers change States.
func (g *Gossip) Ask() {
	if s := g.session.Load(); s != nil {
		s.ask()
	}
}
