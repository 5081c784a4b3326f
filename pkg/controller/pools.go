package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

// poolState is an IPPool as it can be used now.
type poolState struct {
	object *v1alpha1.IPPool // of the informer: never written
	set    pool.Set         // without what is excluded or avoided
	whole  pool.Set         // with it
	free   *pool.Allocator
	// reason and problem say why no address may be given, one of the reasons of v1alpha1; "" when nothing is wrong.
	reason, problem string

	namespaceSelectors, serviceSelectors []labels.Selector
}

func (p *poolState) name() string { return p.object.Name }

func (p *poolState) deleting() bool { return p.object.DeletionTimestamp != nil }

// usable reports whether addresses may be given from the pool.
func (p *poolState) usable() bool { return p.reason == "" && !p.deleting() }

// autoAssign reports whether Services that ask for nothing get addresses of the pool.
func (p *poolState) autoAssign() bool {
	return p.object.Spec.AutoAssign == nil || *p.object.Spec.AutoAssign
}

// has reports whether the pool holds any address of a family, used or not.
func (p *poolState) has(family pool.Family) bool { return p.set.Capacity(family).Sign() > 0 }

// hasAll reports whether the pool holds addresses of every one of the families.
func (p *poolState) hasAll(families []pool.Family) bool {
	return !slices.ContainsFunc(families, func(f pool.Family) bool { return !p.has(f) })
}

// limited reports whether the pool is for some Services only.
func (p *poolState) limited() bool {
	return len(p.object.Spec.Namespaces) > 0 || len(p.namespaceSelectors) > 0 || len(p.serviceSelectors) > 0
}

// serves reports whether a wish may have addresses of a pool. Claims are made by who administers the cluster: no limit is
// meant for them.
func (b *book) serves(p *poolState, w *wish) bool {
	if isClaim(w.asker) {
		return true
	}
	spec, namespace := &p.object.Spec, w.asker.Namespace
	if len(spec.Namespaces) > 0 || len(p.namespaceSelectors) > 0 {
		if !slices.Contains(spec.Namespaces, namespace) && !anyMatches(p.namespaceSelectors, b.namespaces[namespace]) {
			return false
		}
	}
	return len(p.serviceSelectors) == 0 || anyMatches(p.serviceSelectors, w.labels)
}

func anyMatches(selectors []labels.Selector, set map[string]string) bool {
	return slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(labels.Set(set)) })
}

// resolvePools reads all pools, finds which of them are wrong, and orders them as they are tried: by priority, limited ones
// before those for all, then by name. A pool that overlaps an older one gives nothing, even where the older one gives nothing
// either: which pools work then changes only with their own edits. One that is being deleted makes room.
func resolvePools(objects []*v1alpha1.IPPool) []*poolState {
	states := make([]*poolState, 0, len(objects))
	for _, object := range objects {
		states = append(states, readPool(object))
	}
	slices.SortFunc(states, olderFirst)
	for i, state := range states {
		for _, older := range states[:i] {
			if older.deleting() {
				continue
			}
			if shared, overlap := pool.Overlap(state.set, older.set); overlap {
				state.reason = v1alpha1.PoolReasonOverlap
				state.problem = fmt.Sprintf("%s shares %s with %s of the older IPPool %q; remove it from one of them",
					shared.A, shared.Common, shared.B, older.name())
				break
			}
		}
	}
	slices.SortFunc(states, func(a, b *poolState) int { return cmp.Or(a.rank(b), cmp.Compare(a.name(), b.name())) })
	return states
}

// rank orders pools by which is tried first, as far as that is the same for every Service.
func (p *poolState) rank(other *poolState) int {
	return cmp.Or(cmp.Compare(other.object.Spec.Priority, p.object.Spec.Priority), trueFirst(p.limited(), other.limited()))
}

func trueFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	default:
		return 1
	}
}

// readPool reads a pool's own fields.
func readPool(object *v1alpha1.IPPool) *poolState {
	state := &poolState{object: object}
	invalid := func(field string, err error) {
		state.reason, state.problem = v1alpha1.PoolReasonInvalid, fmt.Sprintf("%s: %v", field, err)
		state.set, state.whole = pool.Set{}, pool.Set{}
	}
	whole, err := parseRanges(object.Spec.Addresses)
	excluded, errExclude := parseRanges(object.Spec.Exclude)
	var avoid pool.Avoid
	if object.Spec.AvoidBuggyIPs {
		avoid |= pool.AvoidBuggy
	}
	if object.Spec.AvoidGatewayIPs {
		avoid |= pool.AvoidGateway
	}
	state.whole, state.set = whole, whole.Without(excluded).Avoiding(avoid)
	var errNamespaces, errServices error
	state.namespaceSelectors, errNamespaces = parseSelectors(object.Spec.NamespaceSelectors)
	state.serviceSelectors, errServices = parseSelectors(object.Spec.ServiceSelectors)
	switch {
	case err != nil:
		invalid("spec.addresses", err)
	case errExclude != nil:
		invalid("spec.exclude", errExclude)
	case errNamespaces != nil:
		invalid("spec.namespaceSelectors", errNamespaces)
	case errServices != nil:
		invalid("spec.serviceSelectors", errServices)
	case !state.has(pool.IPv4) && !state.has(pool.IPv6):
		invalid("spec.exclude", fmt.Errorf("nothing of spec.addresses is left: exclude less, or add a range"))
	}
	state.free = pool.NewAllocator(state.set)
	return state
}

func parseRanges(ranges []v1alpha1.AddressRange) (pool.Set, error) {
	specs := make([]string, len(ranges))
	for i, r := range ranges {
		specs[i] = string(r)
	}
	return pool.Parse(specs)
}

func parseSelectors(selectors []metav1.LabelSelector) (parsed []labels.Selector, err error) {
	for i := range selectors {
		s, err := metav1.LabelSelectorAsSelector(&selectors[i])
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w; correct or remove it", i, err)
		}
		parsed = append(parsed, s)
	}
	return parsed, nil
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
