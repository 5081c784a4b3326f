package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

// poolState is an IPPool as it can be used now.
type poolState struct {
	object *v1alpha1.IPPool // of the informer: never written
	set    pool.Set
	free   *pool.Allocator
	// reason and problem say why no address may be given, one of the reasons of v1alpha1; "" when nothing is wrong.
	reason, problem string
}

func (p *poolState) name() string { return p.object.Name }

// usable reports whether addresses may be given from the pool.
func (p *poolState) usable() bool { return p.reason == "" && p.object.DeletionTimestamp == nil }

// autoAssign reports whether Services that ask for nothing get addresses of the pool.
func (p *poolState) autoAssign() bool {
	return p.object.Spec.AutoAssign == nil || *p.object.Spec.AutoAssign
}

// has reports whether the pool holds any address of a family, used or not.
func (p *poolState) has(family pool.Family) bool {
	return slices.ContainsFunc(p.set.Ranges(), func(r pool.Range) bool { return r.Family() == family })
}

// resolvePools reads all pools, finds which of them are wrong, and orders them by name. A pool that overlaps an older one
// gives nothing, even where the older one gives nothing either: which pools work then changes only with their own edits.
func resolvePools(objects []*v1alpha1.IPPool) []*poolState {
	states := make([]*poolState, 0, len(objects))
	for _, object := range objects {
		specs := make([]string, len(object.Spec.Addresses))
		for i, a := range object.Spec.Addresses {
			specs[i] = string(a)
		}
		state := &poolState{object: object}
		set, err := pool.Parse(specs)
		if err != nil {
			state.reason, state.problem = v1alpha1.PoolReasonInvalid, fmt.Sprintf("spec.addresses: %v", err)
		} else {
			state.set = set
		}
		state.free = pool.NewAllocator(state.set)
		states = append(states, state)
	}
	slices.SortFunc(states, olderFirst)
	for i, state := range states {
		for _, older := range states[:i] {
			if shared, overlap := pool.Overlap(state.set, older.set); overlap {
				state.reason = v1alpha1.PoolReasonOverlap
				state.problem = fmt.Sprintf("%s shares %s with %s of the older IPPool %q; remove it from one of them",
					shared.A, shared.Common, shared.B, older.name())
				break
			}
		}
	}
	slices.SortFunc(states, func(a, b *poolState) int { return cmp.Compare(a.name(), b.name()) })
	return states
}

func olderFirst(a, b *poolState) int {
	return cmp.Or(a.object.CreationTimestamp.Compare(b.object.CreationTimestamp.Time), cmp.Compare(a.name(), b.name()))
}

// withPool runs do with the state of a pool, if it exists.
func (b *book) withPool(name string, do func(*poolState)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pools {
		if p.name() == name {
			do(p)
			return true
		}
	}
	return false
}

// poolOf is the pool whose settings apply to an address: the one that may give it, or else the one that is named, or nil.
func (b *book) poolOf(addr netip.Addr, named string) *v1alpha1.IPPool {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found *v1alpha1.IPPool
	for _, p := range b.pools {
		if p.usable() && p.set.Contains(addr) {
			return p.object
		}
		if p.name() == named {
			found = p.object
		}
	}
	return found
}

// poolsWith are the names of the pools that hold an address, usable or not.
func (b *book) poolsWith(addr netip.Addr) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for _, p := range b.pools {
		if p.set.Contains(addr) {
			names = append(names, p.name())
		}
	}
	return names
}

// usageOf are the counts of a pool by family, without the families that it has no address of.
func usageOf(p *poolState) map[pool.Family]pool.Usage {
	usage := map[pool.Family]pool.Usage{}
	for _, family := range []pool.Family{pool.IPv4, pool.IPv6} {
		if u := p.free.Usage(family); u.Capacity.Sign() > 0 {
			usage[family] = u
		}
	}
	return usage
}
