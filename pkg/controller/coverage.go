package controller

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

// coverage is whether a pool stands behind an address that somebody has.
type coverage struct {
	covered bool
	// reassign says that an address that is not covered is to be changed for another.
	reassign bool
	// text says why an address is not covered, and what to do.
	text string
}

// coverageOf tells about an address that a wish's asker (nil: anybody) has from the pool named. A pool that overlaps an older one
// covers its addresses all the same: renaming and splitting pools passes through that.
func (b *book) coverageOf(addr netip.Addr, named string, w *wish) coverage {
	b.mu.Lock()
	defer b.mu.Unlock()
	var from, foreign *poolState
	for _, p := range b.pools {
		if p.name() == named {
			from = p
		}
		if p.deleting() || !p.set.Contains(addr) {
			continue
		}
		if w == nil || b.serves(p, w) {
			return coverage{covered: true}
		}
		foreign = p
	}
	out := coverage{reassign: from != nil && from.object.Spec.Reclaim == v1alpha1.ReclaimReassign}
	switch {
	case foreign != nil:
		out.text = fmt.Sprintf("%s is in IPPool %q, which is for other Services now (%s)", addr, foreign.name(), limits(foreign))
	case from == nil:
		out.text = fmt.Sprintf("%s is in no IPPool any more (%s)", addr, b.list())
	case from.deleting():
		out.text = fmt.Sprintf("%s is of IPPool %q, which is being deleted, and in no other", addr, named)
	default:
		out.text = fmt.Sprintf("%s is no longer in IPPool %s", addr, describe(from))
	}
	return out
}

// whyTaken says who has an address that a tenant cannot have.
func (b *book) whyTaken(addr netip.Addr, t tenant) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	vip := b.vips[addr]
	if vip == nil {
		return addr.String() + " is just being given to another"
	}
	return fmt.Sprintf("%s is taken by %s (%s): map another address, or free it", addr, holderOf(vip), t.joins(vip))
}

// inUse lists the VIPs that keep a pool that is being deleted: those in it, or from it, that no other pool covers.
func (b *book) inUse(p *poolState) (vips []*v1alpha1.VIP) {
	for addr, vip := range b.vips {
		if p.set.Contains(addr) || vip.Spec.Pool == p.name() {
			other := slices.ContainsFunc(b.pools, func(o *poolState) bool { return !o.deleting() && o.set.Contains(addr) })
			if !other {
				vips = append(vips, vip)
			}
		}
	}
	slices.SortFunc(vips, func(a, b *v1alpha1.VIP) int {
		x, _ := vipAddr(a)
		y, _ := vipAddr(b)
		return x.Compare(y)
	})
	return vips
}

// claimFamily is the family of an address for a claim that leaves it open.
func (b *book) claimFamily(named string) pool.Family {
	b.mu.Lock()
	defer b.mu.Unlock()
	family := pool.IPv4
	for _, p := range b.pools {
		if named == "" && p.usable() && p.autoAssign() || named == p.name() {
			if p.has(pool.IPv4) {
				return pool.IPv4
			}
			family = pool.IPv6
		}
	}
	return family
}
