package controller

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
	"github.com/fairlead/fairlead/pkg/source"
)

// choose reserves an address for each need that can be met.
func (b *book) choose(w *wish) (grants []grant, failures []failure) {
	missing := false
	for i := range w.needs {
		g, fail := b.find(w, &w.needs[i])
		if fail != nil {
			failures = append(failures, *fail)
			missing = missing || !w.needs[i].replaces
			continue
		}
		b.keep(w, g.addr)
		grants = append(grants, g)
	}
	if w.all && missing {
		b.unreserve(w.asker)
		return nil, failures
	}
	return grants, failures
}

// find looks for an address for a need: the one asked for, else the one that the status shows, else one to share, else the
// lowest free one of the first pool that has any.
func (b *book) find(w *wish, n *need) (grant, *failure) {
	if n.addr.IsValid() {
		return b.findAsked(w, n)
	}
	pools, fail := b.candidates(w, n)
	if fail != nil {
		return grant{}, fail
	}
	if g, ok := b.findPublished(w, n); ok {
		return g, nil
	}
	if g, ok := b.findShared(w, n, pools); ok {
		return g, nil
	}
	for _, p := range pools {
		if addr, ok := b.lowest(p, n.family, w.asker); ok {
			return grant{family: n.family, addr: addr, pool: p.name()}, nil
		}
	}
	return grant{}, b.exhausted(n, pools)
}

func (b *book) findPublished(w *wish, n *need) (grant, bool) {
	addr := n.published
	if !addr.IsValid() || !slices.Contains(b.published[addr], w.asker) {
		return grant{}, false
	}
	for _, p := range b.pools {
		if p.usable() && (n.pool == "" || n.pool == p.name()) && p.set.Contains(addr) && b.serves(p, w) &&
			(p.free.Free(addr) || b.obstacle(addr, w) == "") {
			return grant{family: n.family, addr: addr, pool: p.name(), joins: true}, true
		}
	}
	return grant{}, false
}

// findShared finds the lowest address of the pools that others share by the wish's key and that has room.
func (b *book) findShared(w *wish, n *need, pools []*poolState) (grant, bool) {
	if w.shareKey() == "" {
		return grant{}, false
	}
	var best grant
	for addr := range b.sharing[w.shareKey()] {
		if pool.FamilyOf(addr) != n.family || best.addr.IsValid() && best.addr.Less(addr) {
			continue
		}
		at := slices.IndexFunc(pools, func(p *poolState) bool { return p.set.Contains(addr) })
		if at >= 0 && b.obstacle(addr, w) == "" {
			best = grant{family: n.family, addr: addr, pool: pools[at].name(), joins: true}
		}
	}
	return best, best.addr.IsValid()
}

// lowest finds the lowest free address of a pool that nobody else shows in its status.
func (b *book) lowest(p *poolState, family pool.Family, who asker) (netip.Addr, bool) {
	var tried []netip.Addr
	defer func() {
		for _, addr := range tried {
			_ = p.free.Release(addr)
		}
	}()
	for {
		addr, ok := p.free.Allocate(family)
		if !ok {
			return netip.Addr{}, false
		}
		tried = append(tried, addr)
		if !slices.ContainsFunc(b.published[addr], func(a asker) bool { return a != who }) {
			return addr, true
		}
	}
}

// obstacle says why a wish cannot have an address that others use or are about to; "" if it can join them.
func (b *book) obstacle(addr netip.Addr, w *wish) string {
	if vip := b.vips[addr]; vip != nil {
		if why := obstacleOn(vip, w); why != "" {
			return why
		}
	}
	for _, other := range b.reserved[addr] {
		if other.asker == w.asker {
			continue
		}
		if isClaim(other.asker) && isClaim(w.asker) {
			return nameOf(other.asker) + " is being given it"
		}
		if why := disagreement(w.frontends, other.frontends); why != "" {
			return why
		}
	}
	return ""
}

// obstacleOn says why a wish cannot join what is on a VIP.
func obstacleOn(vip *v1alpha1.VIP, w *wish) string {
	if isClaim(w.asker) {
		for _, o := range vip.Spec.Owners {
			if o.Kind == v1alpha1.OwnerVIP && o.Name != w.asker.Name {
				return "claim " + o.Name + " has it"
			}
		}
		return ""
	}
	others := slices.DeleteFunc(slices.Clone(vip.Spec.Frontends), func(f v1alpha1.Frontend) bool {
		return f.ConfigMap == "" && keyOfReference(f.Service) == w.asker
	})
	return disagreement(w.frontends, others)
}

// disagreement is the first of those between two lists of frontends of different Services.
func disagreement(mine, others []v1alpha1.Frontend) string {
	for _, a := range mine {
		for _, o := range others {
			if why := source.Disagreement(a, o); why != "" {
				return why
			}
		}
	}
	return ""
}
