package speaker

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/model"
)

// A node that let a VIP go remembers its connections for minutes (IPVS: two after the end of a TCP connection, five after a
// datagram), and takes what a backend of its own answers for theirs, by addresses and ports alone. The next holder asks backends
// with its own address and a port that it, or a pod of it, may have had as a client of that node: the answer would get lost. So
//
//   - soon after it was let go the servers of a VIP are without the backends that see a node's address for a moment, and the kernel
//     ends their connections (net.ipv4.vs.expire_nodest_conn: Documentation/networking/ipvs-sysctl.rst). They would not have gone
//     on: the next holder's address is another one. Those that backends see come from the VIP go on, and stay;
//   - until then, and while that node has no speaker, the next holder does not ask from ports that it had as a client of
//     that node: see package nft;
//   - what it had sent to the last holder itself, it has conntrack forget: see Divert.

const (
	// forgetAfter is how long what was asked before it was let go has for its answers.
	forgetAfter = 500 * time.Millisecond
	// forgetFor is how long a VIP's servers are without backends. The kernel ends connections a timer tick later, in a work queue.
	forgetFor = time.Second
)

// tenure knows which VIPs this node has, and which it let go just now.
type tenure struct {
	had      map[netip.Addr]bool      // nil: nothing is known yet
	left     map[netip.Addr]time.Time // when they were let go, until their connections are forgotten
	recalled bool                     // what an earlier speaker had
}

// reckon takes in what is wanted and what was bound when Apply began, takes out of what is wanted the backends whose connections
// are being forgotten, and says when that changes by time alone.
func (s *step) reckon(have []model.Binding) {
	now := time.Now()
	if s.had == nil {
		s.had, s.left = map[netip.Addr]bool{}, map[netip.Addr]time.Time{}
		for _, binding := range have {
			s.had[binding.Addr] = true
		}
	}
	if !s.settledBound {
		s.comeAndGo(now)
	}
	s.forget(now)
}

// comeAndGo notes which VIPs are wanted here, and which are no longer.
func (s *step) comeAndGo(now time.Time) {
	wanted := make(map[netip.Addr]bool, len(s.want.Bindings))
	for _, binding := range s.want.Bindings {
		wanted[binding.Addr], s.had[binding.Addr] = true, true
		delete(s.left, binding.Addr)
	}
	if !s.settled {
		return
	}
	for addr := range s.had {
		if !wanted[addr] {
			delete(s.had, addr)
			s.left[addr] = now
		}
	}
	if !s.recalled {
		s.recalled = true
		s.recall(now)
	}
}

// recall finds out which VIPs this node had that left while it had no speaker: the kernel still knows connections.
func (s *step) recall(now time.Time) {
	for _, server := range s.want.Servers {
		_, recorded := slices.BinarySearchFunc(s.record, server.Addr, netip.Addr.Compare)
		if !recorded || s.had[server.Addr] {
			continue
		}
		counts, err := s.kernel.Servers.Connections(server.Frontend)
		if err != nil {
			s.errs = append(s.errs, err)
		}
		for _, count := range counts {
			if count > 0 {
				s.left[server.Addr] = now
			}
		}
	}
}

// forget takes the backends of VIPs that were let go out of what is wanted while it is time for that, and says when that changes.
func (s *step) forget(now time.Time) {
	var next time.Time
	forgotten := map[netip.Addr]bool{}
	for addr, at := range s.left {
		change := at.Add(forgetAfter)
		if !now.Before(change) {
			forgotten[addr] = true
			change = change.Add(forgetFor)
		}
		if !now.Before(change) {
			delete(s.left, addr)
			delete(forgotten, addr)
		} else if next.IsZero() || change.Before(next) {
			next = change
		}
	}
	if !next.IsZero() {
		s.outcome.Again = next.Sub(now)
	}
	if len(forgotten) > 0 {
		s.want.Servers = without(s.want, forgotten)
	}
}

// without are the servers that are wanted, those of some VIPs without the backends that see a node's address.
func without(want model.NodeState, forgotten map[netip.Addr]bool) []model.Server {
	stays := map[model.Translation]bool{}
	for _, translation := range want.Translations {
		if forgotten[translation.VIP] && translation.Source == model.FromVIP {
			stays[translation] = true
		}
	}
	servers := slices.Clone(want.Servers)
	for i, server := range servers {
		if forgotten[server.Addr] {
			servers[i].Backends = slices.DeleteFunc(slices.Clone(server.Backends), func(b model.Backend) bool {
				source := model.Translation{VIP: server.Addr, Proto: server.Proto, Backend: b.Addr, Source: model.FromVIP}
				return b.Forwarding == model.Masquerade && !stays[source]
			})
		}
	}
	return servers
}

// Divert makes what this node and its pods had sent to the last holder of the VIPs that were bound since, and goes on, be
// balanced here. It reads all that conntrack knows, which takes long where that is much, and may be called beside Apply.
func (d *Datapath) Divert() error {
	d.mu.Lock()
	taken := d.taken
	d.taken = nil
	d.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	return d.kernel.Table.Divert(taken)
}

// divert lets what was sent to the last holders of VIPs come to this node once it has them.
func (s *Speaker) divert(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.applied:
		}
		if err := s.datapath.Divert(); err != nil {
			klog.FromContext(ctx).Error(err, "What this node had sent to a VIP's last holder may get no more answers")
		}
	}
}
