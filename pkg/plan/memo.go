package plan

import (
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
// informers have it, and a map of who is held or down if it is the very one. What is returned shares memory with what was
// returned before, and must not be changed: a part, a list of the state or a list of candidates in which nothing changed is
// the very one of before.
type Planner struct {
	around   surroundings
	machines []Machine
	down     map[model.Target]bool
	held     map[string]bool
	vips     []*v1alpha1.VIP // as they are in memos
	memos    []*memo         // in the order of the VIPs' names
	order    []int           // of the memos by address: lists that are put together in order are sorted fast
	result   Result          // the last one

	candidacies candidacies
}

// surroundings are what the plan of every VIP depends on.
type surroundings struct {
	node       string
	addresses  []netip.Addr
	isolated   bool
	interfaces []model.Interface
}

// memo is the plan of one VIP, with all that it was made of but the surroundings, and the verdicts, which are in its part.
type memo struct {
	vip      *v1alpha1.VIP
	held     bool
	slices   []answer[types.NamespacedName, []*discoveryv1.EndpointSlice]
	had      []answer[model.Frontend, had]
	done     bool // what it had is what it has by this plan
	machines bool // it depends on them
	timed    bool // it changes with time alone
	part     *Part
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
	around := surroundings{snapshot.Node, snapshot.addresses, snapshot.Isolated, snapshot.Interfaces}
	other := !reflect.DeepEqual(p.around, around)
	moved := !sameMachines(p.machines, snapshot.Machines)
	turned := turnedBetween(p.down, snapshot.Down)
	sameHeld := reflect.ValueOf(p.held).Pointer() == reflect.ValueOf(snapshot.Held).Pointer()
	asPlanned := model.Same(p.result.State.Servers, snapshot.Had)
	p.around, p.machines, p.down, p.held = around, snapshot.Machines, snapshot.Down, snapshot.Held
	changed := p.match(snapshot.VIPs)
	for i, vip := range snapshot.VIPs {
		m := p.memos[i]
		stale := m == nil || other || moved && m.machines || m.timed || m.judged(turned)
		if !stale && sameSpec(m.vip, vip) && m.holds(&snapshot, sameHeld, asPlanned) {
			m.vip = vip
			continue
		}
		now := remember(snapshot, vip)
		if m != nil && reflect.DeepEqual(m.part, now.part) {
			now.part = m.part
		} else {
			changed = true
		}
		p.memos[i] = now
	}
	if changed {
		p.order = byAddress(p.memos, p.order)
		p.result = p.result.with(p.memos, p.order)
	}
	return p.result
}

// match lines what is known of VIPs up with those that there are, and reports whether they are others; nil is a VIP of which
// nothing is known.
func (p *Planner) match(vips []*v1alpha1.VIP) (others bool) {
	if others = !sameNames(p.vips, vips); others {
		p.memos, p.order = lineUp(p.vips, p.memos, vips), nil
	}
	p.vips = vips
	return others
}

// sameNames reports whether two lists, in order, are of the same VIPs.
func sameNames(a, b []*v1alpha1.VIP) bool {
	return model.Same(a, b) || slices.EqualFunc(a, b, func(a, b *v1alpha1.VIP) bool { return a == b || a.Name == b.Name })
}

// lineUp gives what is known of VIPs, in their order, to other ones, nil to those of which nothing is.
func lineUp[T any](before []*v1alpha1.VIP, of []*T, now []*v1alpha1.VIP) []*T {
	known := make(map[string]*T, len(of))
	for i := range of {
		known[before[i].Name] = of[i]
	}
	out := make([]*T, len(now))
	for i, vip := range now {
		out[i] = known[vip.Name]
	}
	return out
}

// byAddress is the order of VIPs by their addresses; known: as it was, if it is known.
func byAddress(vips []*memo, known []int) []int {
	if known != nil {
		return known
	}
	addrs, order := make([]netip.Addr, len(vips)), make([]int, len(vips))
	for i, m := range vips {
		order[i] = i
		addrs[i], _ = netip.ParseAddr(m.vip.Spec.Address) // one that is none is told of in its plan
	}
	slices.SortStableFunc(order, func(a, b int) int { return addrs[a].Compare(addrs[b]) })
	return order
}

// turnedBetween lists the addresses at which a target went down or came up.
func turnedBetween(before, now map[model.Target]bool) map[netip.AddrPort]bool {
	turned := map[netip.AddrPort]bool{}
	for target, down := range now {
		if down != before[target] {
			turned[target.Addr] = true
		}
	}
	for target, down := range before {
		if down != now[target] {
			turned[target.Addr] = true
		}
	}
	return turned
}

// judged reports whether there may be another verdict on one of the backends.
func (m *memo) judged(turned map[netip.AddrPort]bool) bool {
	return len(turned) > 0 && slices.ContainsFunc(m.part.Checked, func(c Checked) bool { return turned[c.Target.Addr] })
}

// holds reports whether a snapshot says to all that was asked what it said when the plan was made: who holds the VIP, unless
// that is known, the EndpointSlices, and what there was of its frontends, unless that is what the last plan gave them.
func (m *memo) holds(s *Snapshot, sameHeld, asPlanned bool) bool {
	if !sameHeld && s.Held[m.vip.Name] != m.held {
		return false
	}
	for i := range m.slices {
		if a := &m.slices[i]; !sameSlices(s.Slices(a.question), a.answer) {
			return false
		}
	}
	if asPlanned && m.done {
		return true
	}
	for i := range m.had {
		a := &m.had[i]
		if backends, known := s.had(a.question); known != a.answer.known || !slices.Equal(backends, a.answer.backends) {
			return false
		}
	}
	return true
}

func sameMachines(a, b []Machine) bool { return model.Same(a, b) || reflect.DeepEqual(a, b) }

// sameSpec reports whether both are one VIP of one generation: its status may differ, which is of no account here.
func sameSpec(a, b *v1alpha1.VIP) bool {
	return a == b || a.UID != "" && a.UID == b.UID && a.Generation == b.Generation
}

// sameSlices reports whether both are the same objects, in any order.
func sameSlices(a, b []*discoveryv1.EndpointSlice) bool {
	return model.Same(a, b) ||
		len(a) == len(b) && !slices.ContainsFunc(a, func(slice *discoveryv1.EndpointSlice) bool { return !slices.Contains(b, slice) })
}

// remember plans a VIP and notes what the snapshot was asked. The literal names no fields, so that it does not compile once
// there is one of which nothing is decided here.
func remember(s Snapshot, vip *v1alpha1.VIP) *memo {
	m := &memo{vip: vip, held: s.Held[vip.Name], part: &Part{VIP: vip.Name}}
	endpoints := func(service types.NamespacedName) []*discoveryv1.EndpointSlice {
		all := s.Slices(service)
		m.slices = append(m.slices, answer[types.NamespacedName, []*discoveryv1.EndpointSlice]{service, all})
		return all
	}
	drained := func(drain Drain) (since time.Duration, empty bool) {
		m.timed = true
		if s.Drained == nil {
			return 0, false
		}
		return s.Drained(drain)
	}
	machines := func() []Machine {
		m.machines = true
		return s.Machines
	}
	asked := Snapshot{
		[]*v1alpha1.VIP{vip}, endpoints, s.Node, nil, s.Isolated, s.Interfaces, s.Held, s.Down, s.Had, drained, s.addresses, machines,
	}
	m.part.Problem = m.part.add(&asked, vip)
	m.noteHad(&s)
	return m
}

// noteHad notes what there was of the VIP's frontends.
func (m *memo) noteHad(s *Snapshot) {
	m.done = true
	for i := range m.vip.Spec.Frontends {
		if len(m.part.State.VIPs) == 0 {
			return // nothing was asked
		}
		key := keyOf(m.part.State.VIPs[0], &m.vip.Spec.Frontends[i])
		backends, known := s.had(key)
		m.had = append(m.had, answer[model.Frontend, had]{key, had{backends, known}})
		has := slices.IndexFunc(m.part.State.Servers, func(s model.Server) bool { return s.Frontend == key })
		m.done = m.done && known == (has >= 0) && (!known || slices.Equal(backends, m.part.State.Servers[has].Backends))
	}
}
