package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/pkg/source"
)

// maxNamed is how many pools a message names: an event's message may have 1024 characters
// (k8s.io/apimachinery/pkg/apis/meta/v1 and core/v1 validation of events).
const maxNamed = 5

// findAsked looks for the address that was asked for.
func (b *book) findAsked(w *wish, n *need) (grant, *failure) {
	fail := func(result, format string, args ...any) (grant, *failure) {
		return grant{}, &failure{n.family, result, fmt.Sprintf("%s: %s ", n.addrField, n.addr) + fmt.Sprintf(format, args...)}
	}
	var in, unusable, without *poolState
	for _, p := range b.pools {
		switch {
		case !p.whole.Contains(n.addr):
		case !p.set.Contains(n.addr):
			without = p
		case p.usable():
			in = p
		default:
			unusable = p
		}
	}
	name := ""
	switch {
	case in == nil && isClaim(w.asker) && n.pool == "": // who administers the cluster may have any address
	case in == nil && unusable != nil:
		return fail(resultNotInPool, "is in IPPool %q alone, which gives no address: %s", unusable.name(), unusable.why())
	case in == nil && without != nil:
		return fail(resultNotInPool, "is left out of IPPool %q by spec.exclude, avoidBuggyIPs or avoidGatewayIPs; ask for another address (%s)",
			without.name(), describe(without))
	case in == nil:
		return fail(resultNotInPool, "is in no IPPool; ask for an address of one, or add it to one (%s)", b.list())
	case n.pool != "" && n.pool != in.name():
		return fail(resultNotInPool, "is in IPPool %q, but %s asks for %q; change one of the two", in.name(), n.poolField, n.pool)
	case !b.serves(in, w):
		return fail(resultNotInPool, "is in IPPool %q, which is for other Services (%s)", in.name(), limits(in))
	default:
		name = in.name()
	}
	if b.vips[n.addr] != nil || len(b.reserved[n.addr]) > 0 {
		if why := b.obstacle(n.addr, w); why != "" {
			if w.shareKey() == "" {
				why = "is taken by " + b.holder(n.addr, w.asker)
			} else {
				why = "cannot be shared: " + why
			}
			return fail(resultTaken, "%s; ask for another address, or for none", why)
		}
	}
	if b.vips[n.addr] == nil && w.shareKey() == "" {
		shown := slices.IndexFunc(b.published[n.addr], func(a asker) bool { return a != w.asker })
		if shown >= 0 { // its VIP object went, and is about to be made again
			return fail(resultTaken, "is shown by the status of %s; ask for another address, or for none", nameOf(b.published[n.addr][shown]))
		}
	}
	return grant{family: n.family, addr: n.addr, pool: name, joins: true}, nil
}

// candidates are the pools that may serve a need that asks for no address, in the order in which they are tried.
func (b *book) candidates(w *wish, n *need) ([]*poolState, *failure) {
	fail := func(format string, args ...any) ([]*poolState, *failure) {
		return nil, &failure{n.family, resultNoPool, fmt.Sprintf(format, args...)}
	}
	if n.pool != "" {
		asks := fmt.Sprintf("%s asks for IPPool %q", n.poolField, n.pool)
		at := slices.IndexFunc(b.pools, func(p *poolState) bool { return p.name() == n.pool })
		switch {
		case at < 0:
			return fail("%s, which does not exist (%s)", asks, b.list())
		case !b.pools[at].usable():
			return fail("%s, which gives no address: %s", asks, b.pools[at].why())
		case !b.serves(b.pools[at], w):
			return fail("%s, which is for other Services (%s); ask for another pool", asks, limits(b.pools[at]))
		case !b.pools[at].has(n.family):
			return fail("%s, which has no %s address (%s); add a range, or ask for another pool", asks, n.family, describe(b.pools[at]))
		}
		return b.pools[at : at+1], nil
	}
	var pools []*poolState
	for _, p := range b.pools {
		if p.usable() && p.autoAssign() && p.has(n.family) && b.serves(p, w) {
			pools = append(pools, p)
		}
	}
	if len(pools) == 0 {
		return fail("no IPPool gives %s addresses to it unasked (%s); create one, or name one with annotation %s",
			n.family, b.list(), source.AnnotationPool)
	}
	if len(w.families) > 1 {
		slices.SortStableFunc(pools, func(a, b *poolState) int {
			return cmp.Or(a.rank(b), trueFirst(a.hasAll(w.families), b.hasAll(w.families)))
		})
	}
	return pools, nil
}

// exhausted says that none of the pools has a free address.
func (b *book) exhausted(n *need, pools []*poolState) *failure {
	var counts []string
	for i, p := range pools {
		if i == maxNamed {
			counts = append(counts, fmt.Sprintf("and %d more", len(pools)-i))
			break
		}
		u := p.free.Usage(n.family)
		counts = append(counts, fmt.Sprintf("IPPool %q: %s of %s allocated", p.name(), u.Allocated, u.Capacity))
	}
	return &failure{n.family, resultExhausted, fmt.Sprintf("no %s address is free (%s); add a range to a pool, or delete a Service "+
		"that needs its address no more", n.family, strings.Join(counts, ", "))}
}

// why a pool gives no address.
func (p *poolState) why() string {
	if p.reason != "" {
		return p.reason + ": " + p.problem
	}
	return "it is being deleted"
}

// list names the pools that exist and what is with them.
func (b *book) list() string {
	if len(b.pools) == 0 {
		return "no IPPool exists"
	}
	var names []string
	for i, p := range b.pools {
		if i == maxNamed {
			names = append(names, fmt.Sprintf("and %d more", len(b.pools)-i))
			break
		}
		names = append(names, describe(p))
	}
	return "pools: " + strings.Join(names, "; ")
}

// describe names a pool, its first ranges, and what keeps Services from it.
func describe(p *poolState) string {
	var facts []string
	for i, r := range p.set.Ranges() {
		if i == maxNamed {
			facts = append(facts, "…")
			break
		}
		facts = append(facts, r.String())
	}
	if !p.autoAssign() {
		facts = append(facts, "autoAssign false")
	}
	if p.limited() {
		facts = append(facts, "for "+limits(p))
	}
	if !p.usable() {
		facts = append(facts, "not usable: "+cmp.Or(p.reason, "being deleted"))
	}
	return fmt.Sprintf("%q %s", p.name(), strings.Join(facts, ", "))
}

// limits says which Services a pool is for.
func limits(p *poolState) string {
	var namespaces, services []string
	if spec := p.object.Spec; len(spec.Namespaces) > 0 {
		namespaces = append(namespaces, "namespaces "+strings.Join(spec.Namespaces, ", "))
	}
	for _, s := range p.namespaceSelectors {
		namespaces = append(namespaces, fmt.Sprintf("namespaces with %q", s))
	}
	for _, s := range p.serviceSelectors {
		services = append(services, fmt.Sprintf("Services with %q", s))
	}
	return strings.Join(slices.DeleteFunc([]string{strings.Join(namespaces, " or "), strings.Join(services, " or ")},
		func(s string) bool { return s == "" }), " and ")
}

// holder names who has an address, or is being given it.
func (b *book) holder(addr netip.Addr, but asker) string {
	if vip := b.vips[addr]; vip != nil {
		return holderOf(vip)
	}
	for _, w := range b.reserved[addr] {
		if w.asker != but {
			return nameOf(w.asker)
		}
	}
	return "another Service"
}
