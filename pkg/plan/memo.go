package plan

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// Planner plans what Node and Candidates do, and of a VIP whose inputs are those of the last time it takes that plan: one
// event among 10,000 VIPs changes one. The zero Planner is good. One goroutine may use it at a time.
//
// A VIP is taken for unchanged if it is of the generation it was of, an EndpointSlice if it is the object it was, as
// informers have it. What is returned shares memory with what was returned before, and must not be changed.
type Planner struct {
	around     surroundings
	names      []string  // of the VIPs
	vips       []*memo   // in the order of the names
	order      []int     // of the VIPs by address: lists that are put together in order are sorted fast
	machines   []Machine // of candidates
	candidates map[string]candidacy
}

// surroundings are what the plan of every VIP depends on.
type surroundings struct {
	node       string
	machines   []Machine
	isolated   bool
	interfaces []model.Interface
}

// memo is the plan of one VIP, with all that it was made of but the surroundings.
type memo struct {
	vip    *v1alpha1.VIP
	held   bool
	slices []answer[types.NamespacedName, []*discoveryv1.EndpointSlice]
	down   []answer[model.Target, bool]
	had    []answer[model.Frontend, had]
	timed  bool // it changes with time alone
	plan   Result
}

// answer is what a function of the snapshot said.
type answer[Q, A any] struct {
	question Q
	answer   A
}

type had struct {
	backends []model.Backend
	known    bool
}

// Node is the plan that the function of this name makes.
func (p *Planner) Node(snapshot Snapshot) Result {
	snapshot.findOwn()
	if around := (surroundings{snapshot.Node, snapshot.Machines, snapshot.Isolated, snapshot.Interfaces}); !reflect.DeepEqual(p.around, around) {
		p.around, p.names, p.vips = around, nil, nil
	}
	p.match(snapshot.VIPs)
	for i, vip := range snapshot.VIPs {
		if m := p.vips[i]; m == nil || !sameSpec(m.vip, vip) || m.timed || !m.holds(&snapshot) {
			p.vips[i] = remember(snapshot, vip)
		}
	}
	if p.order == nil {
		p.order = byAddress(p.vips)
	}
	out := newResult(len(p.vips))
	out.State.VIPs, out.State.Servers = make([]netip.Addr, 0, len(p.vips)), make([]model.Server, 0, len(p.vips))
	for _, i := range p.order {
		out.merge(&p.vips[i].plan)
	}
	out.sort()
	return out
}

// match lines what is known of VIPs up with those that there are; nil is a VIP of which nothing is known.
func (p *Planner) match(vips []*v1alpha1.VIP) {
	if slices.EqualFunc(p.names, vips, func(name string, vip *v1alpha1.VIP) bool { return name == vip.Name }) {
		return
	}
	known := make(map[string]*memo, len(p.names))
	for i, name := range p.names {
		known[name] = p.vips[i]
	}
	p.names, p.vips, p.order = make([]string, len(vips)), make([]*memo, len(vips)), nil
	for i, vip := range vips {
		p.names[i], p.vips[i] = vip.Name, known[vip.Name]
	}
}

// byAddress is the order of VIPs by their addresses.
func byAddress(vips []*memo) []int {
	addrs, order := make([]netip.Addr, len(vips)), make([]int, len(vips))
	for i, m := range vips {
		order[i] = i
		addrs[i], _ = netip.ParseAddr(m.vip.Spec.Address) // one that is none is told of in its plan
	}
	slices.SortStableFunc(order, func(a, b int) int { return addrs[a].Compare(addrs[b]) })
	return order
}

// holds reports whether a snapshot says to all that was asked what it said when the plan was made.
func (m *memo) holds(s *Snapshot) bool {
	if s.Held[m.vip.Name] != m.held {
		return false
	}
	for _, a := range m.slices {
		if !sameSlices(s.Slices(a.question), a.answer) {
			return false
		}
	}
	for _, a := range m.down {
		if s.Down(a.question) != a.answer {
			return false
		}
	}
	for _, a := range m.had {
		if backends, known := s.Had(a.question); known != a.answer.known || !slices.Equal(backends, a.answer.backends) {
			return false
		}
	}
	return true
}

// sameSpec reports whether both are one VIP of one generation: its status may differ, which is of no account here.
func sameSpec(a, b *v1alpha1.VIP) bool {
	return a == b || a.UID != "" && a.UID == b.UID && a.Generation == b.Generation
}

// sameSlices reports whether both are the same objects, in any order.
func sameSlices(a, b []*discoveryv1.EndpointSlice) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(slice *discoveryv1.EndpointSlice) bool { return !slices.Contains(b, slice) })
}

// remember plans a VIP and notes what the snapshot was asked. The literal names no fields, so that it does not compile once
// there is one of which nothing is decided here.
func remember(s Snapshot, vip *v1alpha1.VIP) *memo {
	m := &memo{vip: vip, held: s.Held[vip.Name], plan: newResult(1)}
	var down func(model.Target) bool
	if s.Down != nil {
		down = func(target model.Target) bool {
			is := s.Down(target)
			m.down = append(m.down, answer[model.Target, bool]{target, is})
			return is
		}
	}
	var before func(model.Frontend) ([]model.Backend, bool)
	if s.Had != nil {
		before = func(frontend model.Frontend) ([]model.Backend, bool) {
			backends, known := s.Had(frontend)
			m.had = append(m.had, answer[model.Frontend, had]{frontend, had{slices.Clone(backends), known}})
			return backends, known
		}
	}
	endpoints := func(service types.NamespacedName) []*discoveryv1.EndpointSlice {
		all := s.Slices(service)
		m.slices = append(m.slices, answer[types.NamespacedName, []*discoveryv1.EndpointSlice]{service, slices.Clone(all)})
		return all
	}
	drained := func(drain Drain) (since time.Duration, empty bool) {
		m.timed = true
		if s.Drained == nil {
			return 0, false
		}
		return s.Drained(drain)
	}
	asked := Snapshot{
		[]*v1alpha1.VIP{vip}, endpoints, s.Node, s.Machines, s.Isolated, s.Interfaces, s.Held, down, before, drained, s.addresses,
	}
	if err := m.plan.add(&asked, vip); err != nil {
		m.plan.Problems[vip.Name] = err
	}
	return m
}

// merge adds the plan of another VIP.
func (r *Result) merge(one *Result) {
	s := &r.State
	s.VIPs = append(s.VIPs, one.State.VIPs...)
	s.Servers = append(s.Servers, one.State.Servers...)
	s.SourceRanges = append(s.SourceRanges, one.State.SourceRanges...)
	s.Translations = append(s.Translations, one.State.Translations...)
	s.Inside = append(s.Inside, one.State.Inside...)
	s.Receivers = append(s.Receivers, one.State.Receivers...)
	s.Bindings = append(s.Bindings, one.State.Bindings...)
	maps.Copy(r.Backends, one.Backends)
	maps.Copy(r.Checked, one.Checked)
	maps.Copy(r.Short, one.Short)
	maps.Copy(r.Problems, one.Problems)
	r.Draining, r.Overdue = append(r.Draining, one.Draining...), append(r.Overdue, one.Overdue...)
	r.Again = sooner(r.Again, one.Again)
}

// candidacy is who may hold a VIP; local: it depends on where the pods are.
type candidacy struct {
	vip   *v1alpha1.VIP
	local bool
	found Candidacy
}

// Candidates lists, for each VIP, the machines that may hold it, as the function of this name does.
func (p *Planner) Candidates(vips []*v1alpha1.VIP, machines []Machine, endpoints func(types.NamespacedName) []*discoveryv1.EndpointSlice) []Candidacy {
	before := p.candidates
	if !reflect.DeepEqual(p.machines, machines) {
		before = nil
	}
	p.machines, p.candidates = machines, make(map[string]candidacy, len(vips))
	out := make([]Candidacy, 0, len(vips))
	for _, vip := range vips {
		c, known := before[vip.Name]
		if !known || !sameSpec(c.vip, vip) || c.local {
			c = candidacy{vip: vip, found: Candidates(vip, machines, endpoints)}
			for i := range vip.Spec.Frontends {
				c.local = c.local || isLocal(&vip.Spec.Frontends[i])
			}
		}
		p.candidates[vip.Name] = c
		out = append(out, c.found)
	}
	return out
}
