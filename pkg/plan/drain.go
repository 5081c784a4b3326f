package plan

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// Drain is a backend that keeps its connections and is to get no new ones. It is removed when it has none left, and after
// Limit at the latest; one that is Down, which may come back, after Limit alone.
type Drain struct {
	Frontend model.Frontend
	Backend  netip.AddrPort
	Limit    time.Duration
	Down     bool
}

// leave decides what becomes of the backends of one frontend that are to get no new connections.
type leave struct {
	*planned
	snapshot *Snapshot
	spec     *v1alpha1.Frontend
	members  []member
	policy   policy
	down     map[netip.AddrPort]bool
	had      []model.Backend // of the frontend before this plan, in order
	known    bool            // whether the node had the frontend at all
}

// run takes out those of the backends that are done, and puts back those that are to go and have not ended yet.
func (l *leave) run(backends []model.Backend) []model.Backend {
	l.had, l.known = l.snapshot.had(l.server.Frontend)
	// Weight 0 does not move a flow of UDP, which ends only when its client is silent, and IPVS treats associations of SCTP
	// alike: such a backend goes at once, and its clients are given another.
	moves := l.server.Proto != model.TCP
	backends = slices.DeleteFunc(backends, func(b model.Backend) bool { return b.Weight == 0 && (moves || !l.stays(b)) })
	if moves {
		return backends
	}
	for _, b := range l.had {
		_, planned := slices.BinarySearchFunc(backends, b, model.Backend.Compare)
		if planned || l.isMember(b.Addr) || !l.mayServe(b.Addr.Addr()) || !l.drains(b.Addr) {
			continue
		}
		b.Weight = 0
		backends = append(backends, b)
	}
	slices.SortFunc(backends, model.Backend.Compare)
	return backends
}

// stays decides about a member with weight 0.
func (l *leave) stays(b model.Backend) bool {
	isDown := l.down[b.Addr]
	if !isDown && l.standing(b.Addr) != draining {
		return true // a node in reserve, or one that waits for a quorum: it may get connections again
	}
	// A node that comes to the frontend anew has those that drain or fail elsewhere, with weight 0, for the sake of mh's table
	// (package ipvs). One that had the frontend without it is done with it.
	if _, had := slices.BinarySearchFunc(l.had, b, model.Backend.Compare); !had && l.known {
		return false
	}
	if isDown {
		return l.lasts(Drain{Frontend: l.server.Frontend, Backend: b.Addr, Limit: l.policy.removeAfter, Down: true})
	}
	return l.drains(b.Addr)
}

// standing of an address; absent if it is no member.
func (l *leave) standing(addr netip.AddrPort) standing {
	i, found := slices.BinarySearchFunc(l.members, addr, func(m member, addr netip.AddrPort) int { return m.addr.Compare(addr) })
	if !found {
		return absent
	}
	return l.members[i].standing
}

// isMember reports whether a backend was decided about already.
func (l *leave) isMember(addr netip.AddrPort) bool { return l.standing(addr) != absent }

// mayServe reports whether a backend that is a member no more may still have connections that work. Pods that are not listed
// any more are gone, and their address may be another's; nodes and addresses that were taken out go on.
func (l *leave) mayServe(addr netip.Addr) bool {
	if l.spec.Backends != nil && l.spec.Backends.Kind != v1alpha1.BackendPods && l.spec.Backends.Kind != "" {
		return true
	}
	return slices.ContainsFunc(l.members, func(m member) bool { return m.addr.Addr() == addr }) ||
		slices.ContainsFunc(l.policy.lastResort, func(b model.Backend) bool { return b.Addr.Addr() == addr })
}

// drains reports whether a backend still has connections and time to end them, and lists it if so.
func (l *leave) drains(addr netip.AddrPort) bool {
	limit := v1alpha1.DefaultDrainSeconds * time.Second
	if l.spec.DrainSeconds != nil {
		limit = time.Duration(*l.spec.DrainSeconds) * time.Second
	}
	return l.lasts(Drain{Frontend: l.server.Frontend, Backend: addr, Limit: limit})
}

// lasts reports whether the end of a backend has not come yet.
func (l *leave) lasts(drain Drain) bool {
	var since time.Duration
	var empty bool
	if l.snapshot.Drained != nil {
		since, empty = l.snapshot.Drained(drain)
	}
	switch {
	case empty && !drain.Down:
		return false
	case since >= drain.Limit:
		l.overdue = append(l.overdue, drain)
		return false
	}
	l.again = sooner(l.again, drain.Limit-since)
	l.draining = append(l.draining, drain)
	return true
}

// sooner is the smaller of two durations, of which 0 means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return cmp.Or(a, b)
	}
	return min(a, b)
}
