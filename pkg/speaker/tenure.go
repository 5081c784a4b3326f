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
	// recalledAtOnce is how many VIPs are asked for in one Apply after a start, the next ones forgetAfter later: there may be ten
	// thousand, and a takeover does not wait for that many answers.
	recalledAtOnce = 256
)

// tenure knows which VIPs this node has, and which it let go just now.
type tenure struct {
	had      map[netip.Addr]bool      // nil: nothing is known yet
	left     map[netip.Addr]departure // until their connections are forgotten
	recalled bool                     // what an earlier speaker had
}

// departure is how far a VIP's connections are forgotten.
type departure struct {
	due   time.Time // when to begin
	until time.Time // until when its servers are without backends; zero: it has not begun
}

// reckon takes in what is wanted and what was bound when Apply began, and takes out of what is wanted the backends whose connections
// are to be forgotten now.
func (s *step) reckon(have []model.Binding) {
	now := time.Now()
	if s.had == nil {
		s.had, s.left = map[netip.Addr]bool{}, map[netip.Addr]departure{}
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
			s.left[addr] = departure{due: now.Add(forgetAfter)}
		}
	}
	if !s.recalled {
		s.recalled = true
		s.recall(now)
	}
}

// recall has those VIPs that this node may have had, and that left while it had no speaker, forgotten as well: the kernel knows
// whether they have connections.
func (s *step) recall(now time.Time) {
	for i, addr := range s.record {
		if _, leaves := s.left[addr]; !leaves && !s.had[addr] {
			s.left[addr] = departure{due: now.Add(time.Duration(1+i/recalledAtOnce) * forgetAfter)}
		}
	}
}

// forget takes the backends of VIPs that were let go out of what is wanted while it is time for that.
func (s *step) forget(now time.Time) {
	due, forgotten := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for addr, departure := range s.left {
		switch {
		case now.Before(departure.due):
		case departure.until.IsZero():
			due[addr] = true
		case now.Before(departure.until):
			forgotten[addr] = true
		default:
			delete(s.left, addr)
		}
	}
	if len(due)+len(forgotten) == 0 {
		return
	}
	forgettable := s.forgettable()
	connected := s.connected(due, forgettable)
	for addr := range due {
		if !connected[addr] {
			delete(s.left, addr)
			continue
		}
		forgotten[addr] = true
		s.emptied = append(s.emptied, addr)
	}
	if len(forgotten) > 0 {
		s.want.Servers = without(s.want.Servers, forgotten, forgettable)
	}
}

// emptying begins the time of those VIPs whose servers lost their backends in this Apply, and says when to Apply again.
func (s *step) emptying() {
	now := time.Now()
	for _, addr := range s.emptied {
		s.left[addr] = departure{due: now, until: now.Add(forgetFor)}
	}
	var next time.Time
	for _, departure := range s.left {
		change := departure.due
		if !departure.until.IsZero() {
			change = departure.until
		}
		if next.IsZero() || change.Before(next) {
			next = change
		}
	}
	if !next.IsZero() {
		s.outcome.Again = max(next.Sub(now), time.Millisecond)
	}
}

// forgettable tells which backends see a node's address, the others the VIP's or the client's.
func (s *step) forgettable() func(model.Frontend, model.Backend) bool {
	translated := map[model.Translation]bool{}
	for _, translation := range s.want.Translations {
		translated[translation] = true
	}
	return func(f model.Frontend, b model.Backend) bool {
		fromVIP := model.Translation{VIP: f.Addr, Proto: f.Proto, Backend: b.Addr, Source: model.FromVIP}
		return b.Forwarding == model.Masquerade && !translated[fromVIP]
	}
}

// connected are those of some VIPs of which the kernel knows, or may know, connections to such backends. To ask costs a fraction of
// what it takes to have one forgotten.
func (s *step) connected(vips map[netip.Addr]bool, such func(model.Frontend, model.Backend) bool) map[netip.Addr]bool {
	found := map[netip.Addr]bool{}
	for _, server := range s.want.Servers {
		if !vips[server.Addr] || found[server.Addr] {
			continue
		}
		counts, err := s.kernel.Servers.Connections(server.Frontend)
		if err != nil {
			s.errs = append(s.errs, err)
		}
		found[server.Addr] = err != nil || slices.ContainsFunc(server.Backends, func(b model.Backend) bool {
			return counts[b.Addr] > 0 && such(server.Frontend, b)
		})
	}
	return found
}

// without are servers, those of some VIPs without such backends.
func without(servers []model.Server, vips map[netip.Addr]bool, such func(model.Frontend, model.Backend) bool) []model.Server {
	servers = slices.Clone(servers)
	for i, server := range servers {
		if vips[server.Addr] {
			servers[i].Backends = slices.DeleteFunc(slices.Clone(server.Backends), func(b model.Backend) bool {
				return such(server.Frontend, b)
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
