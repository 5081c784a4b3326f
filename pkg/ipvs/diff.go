package ipvs

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/model"
)

// Diff returns the changes that turn what the kernel has into what is wanted. A server that is not wanted is deleted only
// if its address is owned; one that is wanted is brought into line whoever made it. The order depends on the arguments'
// content alone: frontends ascending, and in each one first what adds capacity, then what removes it; servers that go
// altogether come last.
func Diff(want, have []model.Server, owned func(netip.Addr) bool) []Change {
	want, have = sorted(want), sorted(have)
	var changes, deletes []Change
	remove := func(s model.Server) {
		if owned(s.Addr) {
			deletes = append(deletes, Change{Op: DeleteServer, Frontend: s.Frontend})
		}
	}
	for len(want) > 0 && len(have) > 0 {
		switch order := want[0].Compare(have[0].Frontend); {
		case order < 0:
			changes, want = add(changes, want[0]), want[1:]
		case order > 0:
			remove(have[0])
			have = have[1:]
		default:
			changes = edit(changes, want[0], have[0])
			want, have = want[1:], have[1:]
		}
	}
	for _, s := range want {
		changes = add(changes, s)
	}
	for _, s := range have {
		remove(s)
	}
	return append(changes, deletes...)
}

// sorted returns the servers in the order of their frontends, without changing the caller's slice.
func sorted(servers []model.Server) []model.Server {
	compare := func(a, b model.Server) int { return a.Compare(b.Frontend) }
	if slices.IsSortedFunc(servers, compare) {
		return servers
	}
	servers = slices.Clone(servers)
	slices.SortStableFunc(servers, compare)
	return servers
}

// inOrder returns the backends in the order in which every node adds them, without changing the caller's slice.
func inOrder(backends []model.Backend) []model.Backend {
	if slices.IsSortedFunc(backends, model.Backend.Compare) {
		return backends
	}
	backends = slices.Clone(backends)
	slices.SortStableFunc(backends, model.Backend.Compare)
	return backends
}

func add(changes []Change, s model.Server) []Change {
	changes = append(changes, Change{Op: AddServer, Frontend: s.Frontend, Scheduler: s.Scheduler, Persistence: s.Persistence})
	for _, b := range inOrder(s.Backends) {
		changes = addBackend(changes, s, b)
	}
	return changes
}

// addBackend adds a backend. The table of mh is computed from the last weight above 0 that a destination had
// (ip_vs_mh.c, last_weight), so that a destination that drains keeps its place and the others keep their flows. A fresh
// destination at weight 0 has no such weight, and would give another table than on a node that saw it drain (166 of 1500
// flows moved): it is added at weight 1, then set to 0, at the cost of a moment in which it may be chosen.
func addBackend(changes []Change, s model.Server, b model.Backend) []Change {
	if b.Weight == 0 && s.Scheduler.Name == model.MaglevByPort.Name {
		once := b
		once.Weight = 1
		changes = append(changes, Change{Op: AddBackend, Frontend: s.Frontend, Backend: once})
		return append(changes, Change{Op: EditBackend, Frontend: s.Frontend, Backend: b})
	}
	return append(changes, Change{Op: AddBackend, Frontend: s.Frontend, Backend: b})
}

// edit changes a server in place: deleting it would cut the connections it has.
func edit(changes []Change, want, have model.Server) []Change {
	if want.Equal(have) {
		return changes
	}
	if !want.SameService(have) {
		changes = append(changes, Change{
			Op: EditServer, Frontend: want.Frontend, Scheduler: want.Scheduler, Persistence: want.Persistence,
		})
	}
	var edits, deletes []Change
	w, h := inOrder(want.Backends), inOrder(have.Backends)
	for len(w) > 0 || len(h) > 0 {
		switch {
		case len(h) == 0 || len(w) > 0 && w[0].Compare(h[0]) < 0:
			changes, w = addBackend(changes, want, w[0]), w[1:]
		case len(w) == 0 || w[0].Compare(h[0]) > 0:
			deletes = append(deletes, Change{Op: DeleteBackend, Frontend: want.Frontend, Backend: h[0]})
			h = h[1:]
		default:
			if w[0] != h[0] {
				edits = append(edits, Change{Op: EditBackend, Frontend: want.Frontend, Backend: w[0]})
			}
			w, h = w[1:], h[1:]
		}
	}
	return append(append(changes, edits...), deletes...)
}
