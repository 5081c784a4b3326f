package speaker

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
)

// balance makes the IPVS services those wanted. After a full read it compares all; else it reads only those whose wanted
// state changed, so that one change costs the same at any size of the table.
func (s *step) balance() {
	changes, err := s.changes()
	if err != nil {
		s.errs = append(s.errs, err)
		for _, addr := range slices.Concat(s.want.VIPs, s.leaving) {
			s.outcome.Failed[addr] = err
		}
		return
	}
	for len(changes) > 0 {
		addr := changes[0].Frontend.Addr
		end := slices.IndexFunc(changes, func(c ipvs.Change) bool { return c.Frontend.Addr != addr })
		if end < 0 {
			end = len(changes)
		}
		made, err := s.kernel.Servers.Apply(changes[:end])
		s.outcome.Writes += made
		if err != nil {
			s.errs = append(s.errs, err)
			s.outcome.Failed[addr] = err
		}
		changes = changes[end:]
	}
}

func (s *step) changes() ([]ipvs.Change, error) {
	if s.applied == nil || s.doubt {
		have, err := s.kernel.Servers.Servers()
		if err != nil {
			return nil, err
		}
		if !s.settled {
			have = slices.DeleteFunc(have, func(server model.Server) bool {
				return slices.Contains(s.leaving, server.Addr) || receives(s.want, server.Frontend)
			})
		}
		changes := byAddress(ipvs.Diff(s.want.Servers, have, s.owned))
		s.repairedServers(changes)
		return changes, nil
	}
	var changes []ipvs.Change
	for _, pair := range changed(s.applied.Servers, s.want.Servers) {
		server, found, err := s.kernel.Servers.Server(pair.frontend)
		if err != nil {
			return nil, err
		}
		var have []model.Server
		if found {
			have = []model.Server{server}
		}
		changes = append(changes, ipvs.Diff(pair.want, have, func(netip.Addr) bool { return true })...)
	}
	return byAddress(changes), nil
}

// byAddress groups changes by VIP and keeps their order within one.
func byAddress(changes []ipvs.Change) []ipvs.Change {
	slices.SortStableFunc(changes, func(a, b ipvs.Change) int { return a.Frontend.Addr.Compare(b.Frontend.Addr) })
	return changes
}

// wanted is a frontend with the server it shall have, none or one, and whether it had one.
type wanted struct {
	frontend model.Frontend
	want     []model.Server
	had      bool
}

// changed lists the frontends whose servers differ between two sorted lists.
func changed(old, now []model.Server) []wanted {
	if model.Same(old, now) {
		return nil
	}
	var out []wanted
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].Compare(now[0].Frontend) < 0:
			out = append(out, wanted{frontend: old[0].Frontend, had: true})
			old = old[1:]
		case len(old) == 0 || old[0].Frontend != now[0].Frontend:
			out = append(out, wanted{frontend: now[0].Frontend, want: now[:1]})
			now = now[1:]
		default:
			if !old[0].Equal(now[0]) {
				out = append(out, wanted{frontend: now[0].Frontend, want: now[:1], had: true})
			}
			old, now = old[1:], now[1:]
		}
	}
	return out
}

// boundAtOnce is how many VIPs are bound before the first of them is announced, and before Refresh can prolong lives again.
const boundAtOnce = 64

// bind puts the wanted VIPs on their interfaces, but for those that failed below, and announces them.
func (s *step) bind(have []model.Binding) {
	if s.settledBound {
		return
	}
	there := setOf(have)
	bound := intersect(s.want.Bindings, have)
	missing := slices.DeleteFunc(slices.Clone(s.want.Bindings), func(b model.Binding) bool { return there[b] || s.outcome.Failed[b.Addr] != nil })
	for chunk := range slices.Chunk(missing, boundAtOnce) {
		bound = s.bindSome(bound, chunk)
		s.kernel.Announcer.Set(bound)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bound = intersect(s.want.Bindings, bound) // in the order of the plan
	s.outcome.Bound = s.bound
	s.kernel.Announcer.Set(s.bound)
}

// bindSome binds the missing ones and returns all that are bound now.
func (s *step) bindSome(bound, missing []model.Binding) []model.Binding {
	s.mu.Lock()
	defer s.mu.Unlock()
	lifetime := s.fence()
	if lifetime <= 0 {
		return bound // the right lapsed meanwhile: the next plan does not want them
	}
	failed := s.kernel.Addresses.Bind(missing, lifetime)
	for _, binding := range missing {
		if err := failed[binding.Addr]; err != nil {
			s.errs = append(s.errs, err)
			s.outcome.Failed[binding.Addr] = err
			continue
		}
		s.outcome.Writes++
		s.repairedBinding(binding)
		bound = append(bound, binding)
		s.taken = append(s.taken, binding.Addr)
	}
	s.bound = bound
	return bound
}

// keepBound goes on announcing what was bound before: what was working keeps working.
func (s *step) keepBound(have []model.Binding) {
	s.outcome.Bound = intersect(s.want.Bindings, have)
}
