package plan

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/model"
)

// Part is what one VIP has of a Result.
type Part struct {
	VIP string // its name
	// State is its part of the node's. It has the VIP's address, if that is one.
	State    model.NodeState
	Backends Count
	// Checked lists the backends with a health check: in the order of the frontends, nothing twice.
	Checked []Checked
	// Short lists the frontends with fewer backends up than their quorum.
	Short []Short
	// Local counts the pods on this node where that is to be told.
	Local []Local
	// Problem is why this node leaves out all or part of it.
	Problem error

	draining, overdue []Drain
	again             time.Duration
}

// Local is what a Service's healthCheckNodePort tells.
type Local struct {
	Port    int32
	Service types.NamespacedName
	Pods    int
}

// none is the part of a VIP that there is not.
var none Part

// Changes walks through what differs between the parts of two results: the part before and the part now of each VIP that is
// planned differently, nil where there was or is none. It costs little where little differs, however many there are.
func Changes(before, now []*Part) iter.Seq2[*Part, *Part] {
	return func(yield func(*Part, *Part) bool) {
		for len(before) > 0 || len(now) > 0 {
			var old, new *Part
			if len(before) > 0 && (len(now) == 0 || before[0] == now[0] || before[0].VIP <= now[0].VIP) {
				old = before[0]
			}
			if len(now) > 0 && (len(before) == 0 || before[0] == now[0] || now[0].VIP <= before[0].VIP) {
				new = now[0]
			}
			if old != nil {
				before = before[1:]
			}
			if new != nil {
				now = now[1:]
			}
			if old != new && !yield(old, new) {
				return
			}
		}
	}
}

// with is the result of other parts: those of memos. What they leave as it was is not made anew. The order is that by address.
func (r *Result) with(memos []*memo, order []int) Result {
	parts, ordered := make([]*Part, len(memos)), make([]*Part, len(memos))
	for i, m := range memos {
		parts[i] = m.part
	}
	for i, at := range order {
		ordered[i] = parts[at]
	}
	g := gathering{parts: ordered}
	for old, new := range Changes(r.Parts, parts) {
		g.before, g.now = append(g.before, cmp.Or(old, &none)), append(g.now, cmp.Or(new, &none))
	}
	before := &r.State
	out := Result{Parts: parts, State: model.NodeState{
		VIPs: gather(g, before.VIPs, func(p *Part) []netip.Addr { return p.State.VIPs }, slices.Equal, netip.Addr.Compare),
		Servers: gather(g, before.Servers, func(p *Part) []model.Server { return p.State.Servers }, sameServers,
			func(a, b model.Server) int { return a.Compare(b.Frontend) }),
		SourceRanges: gather(g, before.SourceRanges, func(p *Part) []model.SourceRange { return p.State.SourceRanges }, slices.Equal,
			func(a, b model.SourceRange) int {
				return cmp.Or(a.Frontend.Compare(b.Frontend), a.Prefix.Compare(b.Prefix))
			}),
		Translations: gather(g, before.Translations, func(p *Part) []model.Translation { return p.State.Translations }, slices.Equal,
			model.Translation.Compare),
		Inside: gather(g, before.Inside, func(p *Part) []netip.Prefix { return p.State.Inside }, slices.Equal, netip.Prefix.Compare),
		Receivers: gather(g, before.Receivers, func(p *Part) []model.Receiver { return p.State.Receivers }, slices.Equal,
			func(a, b model.Receiver) int { return a.Compare(b.Frontend) }),
		Bindings: gather(g, before.Bindings, func(p *Part) []model.Binding { return p.State.Bindings }, slices.Equal,
			func(a, b model.Binding) int { return a.Addr.Compare(b.Addr) }),
	}}
	out.Draining = gather(g, r.Draining, func(p *Part) []Drain { return p.draining }, slices.Equal, nil)
	out.Overdue = gather(g, r.Overdue, func(p *Part) []Drain { return p.overdue }, slices.Equal, nil)
	if !model.Same(out.State.Inside, before.Inside) {
		out.State.Inside = slices.Compact(out.State.Inside)
	}
	for _, part := range ordered {
		out.Again = sooner(out.Again, part.again)
	}
	return out
}

// gathering is what lists are put together from: all parts by address, and of those that changed the ones before and now.
type gathering struct{ parts, before, now []*Part }

// gather puts a list together from those of the parts, sorted if it has an order, unless none of them changed.
func gather[T any](g gathering, list []T, of func(*Part) []T, equal func(a, b []T) bool, order func(a, b T) int) []T {
	changed, size := false, len(list)
	for i := range g.before {
		before, now := of(g.before[i]), of(g.now[i])
		changed = changed || !equal(before, now)
		size += len(now) - len(before)
	}
	if !changed {
		return list
	}
	list = make([]T, 0, max(size, 0))
	for _, part := range g.parts {
		list = append(list, of(part)...)
	}
	if order != nil {
		slices.SortStableFunc(list, order)
	}
	return list
}

func sameServers(a, b []model.Server) bool { return slices.EqualFunc(a, b, model.Server.Equal) }
