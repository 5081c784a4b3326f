package speaker

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/source"
)

// lease is the set of addresses that this node holds and has not given to another.
type lease struct {
	bindings []model.Binding
	leaving  []string
	addrs    map[netip.Addr]bool
}

// MayAnnounce reports whether this node has the right to announce an address at this moment.
func (s *Speaker) MayAnnounce(addr netip.Addr) bool {
	held := s.lease.Load()
	return held != nil && held.addrs[addr] && s.right() > 0
}

// right is how long the right to announce lasts from now on.
func (s *Speaker) right() time.Duration { return s.elector.Until().Sub(election.BootTime()) }

// setHeld publishes to the announcer what this node holds, but for the VIPs that are leaving.
func (s *Speaker) setHeld(bindings []model.Binding, leaving []string) {
	if held := s.lease.Load(); held != nil && slices.Equal(held.bindings, bindings) && slices.Equal(held.leaving, leaving) {
		return
	}
	addrs := make(map[netip.Addr]bool, len(bindings))
	for _, binding := range bindings {
		addrs[binding.Addr] = true
	}
	for _, name := range leaving {
		if addr, err := source.ParseVIPName(name); err == nil {
			delete(addrs, addr)
		}
	}
	s.lease.Store(&lease{bindings: bindings, leaving: leaving, addrs: addrs})
}

// Seen takes in another host that uses an address which this node announces or asks for: what the announcer in the kernel
// tells. It does not block.
func (s *Speaker) Seen(sighting announce.Sighting) {
	s.conflicts.see(sighting)
	if !sighting.Asking {
		s.elector.Announced(source.VIPName(sighting.Addr))
	}
}

// fence prolongs the lives of bound VIPs while this speaker lives and has the right, and at once where interfaces changed.
func (s *Speaker) fence(ctx context.Context) {
	ticker := time.NewTicker(fenceEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-s.refresh:
		}
		repairs, complete, err := s.datapath.Refresh()
		s.blame.tell(ctx, repairs)
		if err != nil {
			klog.FromContext(ctx).Error(err, "Cannot prolong the lifetime of VIPs")
		}
		if err != nil || !complete {
			s.Notify()
		}
	}
}
