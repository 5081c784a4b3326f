package gossip

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"time"

	"k8s.io/klog/v2"
)

const (
	// joinEvery is how often nodes that are no members are tried, joinAtOnce how many of them: the first that answers tells
	// of the others.
	joinEvery  = time.Second
	joinAtOnce = 3
	// joinFailures is the attempt at a peer that listens whose failure is told of: a busy one may fail now and then.
	joinFailures = 3
)

// join joins whoever is not a member, again and again, until the context ends or the node has another address.
func (s *session) join(addr netip.Addr) {
	ticker := time.NewTicker(joinEvery)
	defer ticker.Stop()
	for {
		s.joinSome(s.config.Peers())
		select {
		case <-s.ctx.Done():
			return
		case <-ticker.C:
		}
		if now := s.config.Address().Unmap(); now.IsValid() && now != addr {
			klog.FromContext(s.ctx).Info("This node has another address; joining anew", "address", now, "former", addr)
			return
		}
	}
}

// joinSome tries some nodes that are no members, and forgets the dead that are no nodes any more.
func (s *session) joinSome(nodes map[string]netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range s.peers {
		if _, exists := nodes[name]; !exists && !p.listed && !p.state.Alive {
			p.gone = true
			delete(s.peers, name)
			s.count()
		}
	}
	var missing []string
	for name := range nodes {
		if p := s.peers[name]; name != s.config.Node && !s.joining[name] && (p == nil || !p.listed) {
			missing = append(missing, name)
		}
	}
	rand.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	for _, name := range missing[:min(len(missing), joinAtOnce)] {
		at := netip.AddrPortFrom(nodes[name], s.at.Port())
		s.joining[name] = true
		s.start(func() { s.joinNode(name, at) })
	}
}

func (s *session) joinNode(name string, at netip.AddrPort) {
	ctx, cancel := context.WithTimeout(s.ctx, streamTimeout)
	defer cancel()
	err := dial(ctx, at)
	listens := err == nil
	if listens {
		_, err = s.list.Join([]string{name + "/" + at.String()})
	}
	s.mu.Lock()
	delete(s.joining, name)
	tell := false
	if listens && err != nil && s.ctx.Err() == nil {
		s.failed[name]++
		tell = s.failed[name] == joinFailures
	}
	s.mu.Unlock()
	if tell {
		klog.FromContext(s.ctx).Error(err, "A peer does not let this speaker join; trying on. Has it the same key?", "peer", name, "address", at)
	}
}
