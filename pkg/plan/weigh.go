package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// weigh gives every member the weight that Kubernetes' word alone gives it, and counts. Those that are ready have weight 1; a
// node in reserve and an endpoint that drains have 0, so that they keep their connections, unless none is ready: then they take
// new ones too (of endpoints KEP-1669 wants it).
func weigh(members []member, checked []Checked) ([]model.Backend, Count) {
	down := downs(checked)
	anyReady := slices.ContainsFunc(members, func(m member) bool { return m.standing == ready })
	count := Count{All: len(members)}
	var out []model.Backend
	for _, m := range members {
		if m.standing == absent {
			continue
		}
		backend := model.Backend{Addr: m.addr}
		if m.standing == ready || !anyReady {
			backend.Weight = 1
			if !down[m.addr] {
				count.Ready++
			}
		}
		out = append(out, backend)
	}
	return out, count
}

// downs are the backends that are down: nil where none is.
func downs(checked []Checked) (down map[netip.AddrPort]bool) {
	for _, c := range checked {
		if !c.Down {
			continue
		}
		if down == nil {
			down = map[netip.AddrPort]bool{}
		}
		down[c.Backend] = true
	}
	return down
}

// Instead says where the connections go while a frontend has fewer backends up than its quorum.
type Instead string

// The ways out, in the order in which they are taken.
const (
	InsteadLastResort Instead = "to the last resort"
	InsteadNobody     Instead = "to nobody: clients are refused"
	InsteadEverybody  Instead = "to all backends, as if there were no check"
)

// Short is a frontend with fewer backends up than its quorum, where that makes a difference.
type Short struct {
	Frontend model.Frontend
	Count    Count
	Quorum   int
	Instead  Instead
}

// policy is what a frontend's health check makes of verdicts.
type policy struct {
	quorum      int
	closed      bool
	lastResort  []model.Backend // sorted
	removeAfter time.Duration
}

// policyOf is the policy of a frontend: without a health check a quorum of one, and open.
func policyOf(frontend *v1alpha1.Frontend, vip netip.Addr) (policy, error) {
	out := policy{quorum: v1alpha1.DefaultQuorum, removeAfter: v1alpha1.DefaultRemoveAfterSeconds * time.Second}
	spec := frontend.HealthCheck
	if spec == nil {
		return out, nil
	}
	out.quorum = int(cmp.Or(spec.Quorum, v1alpha1.DefaultQuorum))
	if spec.RemoveAfterSeconds != nil {
		out.removeAfter = time.Duration(*spec.RemoveAfterSeconds) * time.Second
	}
	switch spec.WhenAllFail {
	case v1alpha1.FailOpen, "":
	case v1alpha1.FailClosed:
		out.closed = true
	default:
		return out, fmt.Errorf("healthCheck.whenAllFail %q is not one of Open, Closed: set it to one of them in the pool", spec.WhenAllFail)
	}
	for _, text := range spec.LastResort {
		addr, err := netip.ParseAddrPort(text)
		if err != nil || addr.Port() == 0 || addr.Addr().Zone() != "" || addr.Addr().Is4In6() {
			return out, fmt.Errorf("healthCheck.lastResort has %q, which is not an address with a port (192.0.2.80:8080, "+
				"[2001:db8::80]:8080): change it in the pool", text)
		}
		if addr.Addr().Is4() == vip.Is4() {
			out.lastResort = append(out.lastResort, model.Backend{Addr: addr, Weight: 1})
		}
	}
	slices.SortFunc(out.lastResort, model.Backend.Compare)
	out.lastResort = slices.Compact(out.lastResort)
	return out, nil
}

// instead says where connections go for want of a quorum; empty if there is one, or none is missed.
func (p policy) instead(count Count, anyDown bool) Instead {
	switch {
	case count.Ready >= p.quorum:
		return ""
	case len(p.lastResort) > 0:
		return InsteadLastResort
	case p.closed:
		return InsteadNobody
	case anyDown:
		return InsteadEverybody
	}
	return ""
}

// apply takes the weight of those that are down, or for want of a quorum does what is to be done instead.
func (p policy) apply(backends []model.Backend, down map[netip.AddrPort]bool, instead Instead) []model.Backend {
	for i := range backends {
		if instead == "" && down[backends[i].Addr] || instead == InsteadNobody || instead == InsteadLastResort {
			backends[i].Weight = 0
		}
	}
	if instead != InsteadLastResort {
		return backends
	}
	// One that is both a backend and the last resort is the latter now: of equal ones the first stays.
	backends = append(slices.Clone(p.lastResort), backends...)
	slices.SortStableFunc(backends, model.Backend.Compare)
	return slices.CompactFunc(backends, func(a, b model.Backend) bool { return a.Addr == b.Addr })
}

// share gives a frontend its backends: by Kubernetes' word, health checks, and what becomes of those that are to get no new
// connections.
func (p *planned) share(s *Snapshot, spec *v1alpha1.Frontend, members []member) error {
	policy, err := policyOf(spec, p.server.Addr)
	if err != nil {
		return err
	}
	backends, count := weigh(members, p.checked)
	down := downs(p.checked)
	instead := policy.instead(count, len(down) > 0)
	if instead != "" {
		p.short = &Short{Frontend: p.server.Frontend, Count: count, Quorum: policy.quorum, Instead: instead}
	}
	p.count = count
	p.server.Backends = policy.apply(backends, down, instead)
	leave := &leave{planned: p, snapshot: s, spec: spec, members: members, policy: policy, down: down}
	p.server.Backends = leave.run(p.server.Backends)
	return nil
}
