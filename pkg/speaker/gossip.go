package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/kube"
)

// gossip takes part until the function that it returns is called, which is after this speaker has parted: whoever found before that
// nobody listens any more would take its VIPs.
func (s *Speaker) gossip(ctx context.Context, failed chan<- error) (end func()) {
	if s.config.Gossip == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.Heard()
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.config.Gossip.Run(ctx); err != nil && ctx.Err() == nil {
			failed <- fmt.Errorf("gossip with peers: %w", err)
		}
	})
	return func() { cancel(); work.Wait() }
}

// Address is the one by which this node's speaker gossips: the first of its Node object. It is invalid until that is known.
func (s *Speaker) Address() netip.Addr {
	return gossipAddresses(s.watcher.Nodes(), s.config.Node)[s.config.Node]
}

// Peers are the addresses of all nodes by name, by which their speakers gossip.
func (s *Speaker) Peers() map[string]netip.Addr {
	return gossipAddresses(s.watcher.Nodes(), s.config.Node)
}

// Heard tells the election what the gossip knows of the peers now.
func (s *Speaker) Heard() {
	reach := map[string]election.Reach{}
	for node, state := range s.config.Gossip.Peers() {
		reach[node] = election.Reach{
			Alive: state.Alive, Dead: election.Instant(state.Dead), Refused: state.Refused, Alone: state.Alone,
			HasAPI: state.HasAPI, Said: election.Instant(state.Said), Spared: state.Spared,
		}
	}
	s.elector.SetReach(reach)
}

// HasAPI tries now whether the API server answers this speaker, by the connection of its renewals.
func (s *Speaker) HasAPI(ctx context.Context) bool { return s.elector.HasAPI(ctx) }

// Spares returns the epoch of a peer that this speaker cannot have revoked.
func (s *Speaker) Spares(peer string) string { return s.elector.Spares(peer) }

// gossipAddresses are one address of each node: of the family that the first of this node's is of, or none.
func gossipAddresses(nodes []*corev1.Node, self string) map[string]netip.Addr {
	var own netip.Addr
	for _, node := range nodes {
		if addresses := kube.NodeAddresses(node); node.Name == self && len(addresses) > 0 {
			own = addresses[0]
		}
	}
	out := make(map[string]netip.Addr, len(nodes))
	for _, node := range nodes {
		for _, addr := range kube.NodeAddresses(node) {
			if own.IsValid() && addr.Is4() == own.Is4() {
				out[node.Name] = addr
				break
			}
		}
	}
	return out
}

// watch has the silence of peers noticed at once; nil without gossip.
func (c Config) watch() func([]string) {
	if c.Gossip == nil {
		return nil
	}
	return c.Gossip.Watch
}

// ask asks the peers whether the API server answers them; nil without gossip.
func (c Config) ask() func() {
	if c.Gossip == nil {
		return nil
	}
	return c.Gossip.Ask
}
