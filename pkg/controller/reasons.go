package controller

import (
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
func (b *book) findAsked(n *need) (grant, *failure) {
	fail := func(result, format string, args ...any) (grant, *failure) {
		return grant{}, &failure{n.family, result, fmt.Sprintf("%s: %s ", n.field, n.addr) + fmt.Sprintf(format, args...)}
	}
	var in, unusable *poolState
	for _, p := range b.pools {
		if p.set.Contains(n.addr) {
			if p.usable() {
				in = p
			} else {
				unusable = p
			}
		}
	}
	switch {
	case in == nil && unusable != nil:
		return fail(resultNotInPool, "is in IPPool %q alone, which gives no address: %s", unusable.name(), unusable.why())
	case in == nil:
		return fail(resultNotInPool, "is in no IPPool; ask for an address of one, or add it to one (%s)", b.list())
	case n.pool != "" && n.pool != in.name():
		return fail(resultNotInPool, "is in IPPool %q, but annotation %s asks for %q; change one of the two",
			in.name(), source.AnnotationPool, n.pool)
	case !in.free.Free(n.addr):
		return fail(resultTaken, "is taken by %s; ask for another address, or for none", b.holder(n.addr))
	}
	return grant{n.family, n.addr, in.name()}, nil
}

// candidates are the pools that may serve a need that asks for no address.
func (b *book) candidates(n *need) ([]*poolState, *failure) {
	fail := func(format string, args ...any) ([]*poolState, *failure) {
		return nil, &failure{n.family, resultNoPool, fmt.Sprintf(format, args...)}
	}
	if n.pool != "" {
		at := slices.IndexFunc(b.pools, func(p *poolState) bool { return p.name() == n.pool })
		switch {
		case at < 0:
			return fail("annotation %s asks for IPPool %q, which does not exist (%s)", source.AnnotationPool, n.pool, b.list())
		case !b.pools[at].usable():
			return fail("annotation %s asks for IPPool %q, which gives no address: %s", source.AnnotationPool, n.pool, b.pools[at].why())
		case !b.pools[at].has(n.family):
			return fail("annotation %s asks for IPPool %q, which has no %s address (%s); add a range, or ask for another pool",
				source.AnnotationPool, n.pool, n.family, describe(b.pools[at]))
		}
		return b.pools[at : at+1], nil
	}
	var pools []*poolState
	for _, p := range b.pools {
		if p.usable() && p.autoAssign() && p.has(n.family) {
			pools = append(pools, p)
		}
	}
	if len(pools) == 0 {
		return fail("no IPPool gives %s addresses to Services that name none (%s); create one, or name one with annotation %s",
			n.family, b.list(), source.AnnotationPool)
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
	if !p.usable() {
		facts = append(facts, "not usable: "+reasonOr(p.reason, "being deleted"))
	}
	return fmt.Sprintf("%q %s", p.name(), strings.Join(facts, ", "))
}

func reasonOr(reason, other string) string {
	if reason != "" {
		return reason
	}
	return other
}

// holder names who has an address.
func (b *book) holder(addr netip.Addr) string {
	if entry, ok := b.vips[source.VIPName(addr)]; ok && entry.addr == addr {
		return entry.holder
	}
	for _, entry := range b.vips { // somebody made a VIP object of another name by hand
		if entry.addr == addr {
			return entry.holder
		}
	}
	if service, ok := b.reserved[addr]; ok {
		return "Service " + service.String()
	}
	return "another Service"
}
