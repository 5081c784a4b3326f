package controller

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
	"github.com/fairlead/fairlead/pkg/source"
)

// plan is what a Service has, lacks, and has too much of.
type plan struct {
	current map[pool.Family]*v1alpha1.VIP
	surplus []*v1alpha1.VIP // of a family that is not wanted, or a second one of a family
	wish    wish
	// notes tell what is not as it should be with an address that the Service keeps.
	notes []string
}

// addressesOf are the addresses that the status of a Service shows.
func addressesOf(svc *corev1.Service) []netip.Addr {
	var addrs []netip.Addr
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(ingress.IP); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// plan compares what a Service asks for with the VIP objects that are its own.
func (c *Controller) plan(svc *corev1.Service, request source.Request, own []*v1alpha1.VIP) plan {
	p := plan{current: map[pool.Family]*v1alpha1.VIP{}, wish: wish{
		asker: keyOf(svc), created: svc.CreationTimestamp.Time, all: request.RequireAll, labels: request.Labels,
		frontends: request.Frontends(request.Families[0]),
	}}
	for _, f := range request.Families {
		p.wish.families = append(p.wish.families, pool.Family(f))
	}
	shown := addressesOf(svc)
	byFamily := map[pool.Family][]*v1alpha1.VIP{}
	for _, vip := range own {
		if addr, ok := vipAddr(vip); ok {
			byFamily[pool.FamilyOf(addr)] = append(byFamily[pool.FamilyOf(addr)], vip)
		}
	}
	for _, family := range p.wish.families {
		n := need{family: family, addr: request.Addresses[corev1.IPFamily(family)], pool: request.Pool,
			addrField: request.AddressField, poolField: request.PoolField}
		vips := byFamily[family]
		delete(byFamily, family)
		vips, crowded := divide(vips, func(vip *v1alpha1.VIP) bool { return crowdedOut(vip, &p.wish) })
		p.surplus = append(p.surplus, crowded...)
		if len(vips) > 0 {
			best := c.best(vips, n, shown)
			p.current[family] = vips[best]
			p.surplus = append(p.surplus, slices.Delete(slices.Clone(vips), best, best+1)...)
			if c.meets(vips[best], n) && !c.leaves(vips[best], &p) {
				continue
			}
			n.replaces = true
		}
		if at := slices.IndexFunc(shown, func(a netip.Addr) bool { return pool.FamilyOf(a) == family }); at >= 0 {
			n.published = shown[at]
		}
		p.wish.needs = append(p.wish.needs, n)
	}
	for _, vips := range byFamily {
		p.surplus = append(p.surplus, vips...)
	}
	return p
}

// crowdedOut reports whether others have every port of a wish on a VIP: the Service has nothing there, and needs another.
func crowdedOut(vip *v1alpha1.VIP, w *wish) bool {
	others := slices.DeleteFunc(slices.Clone(vip.Spec.Frontends), func(f v1alpha1.Frontend) bool { return keyOfReference(f.Service) == w.asker })
	return !slices.ContainsFunc(w.frontends, func(mine v1alpha1.Frontend) bool { return !clash(others, mine) })
}

// divide splits a list by what is true of its elements.
func divide[T any](list []T, is func(T) bool) (no, yes []T) {
	for _, x := range list {
		if is(x) {
			yes = append(yes, x)
		} else {
			no = append(no, x)
		}
	}
	return no, yes
}

// best chooses one of several VIP objects of a family: one that meets the need, else one that the status shows, else the first
// by name. There are several only after two controllers worked at once.
func (c *Controller) best(vips []*v1alpha1.VIP, n need, shown []netip.Addr) int {
	best, bestScore := 0, -1
	for i, vip := range vips {
		score := 0
		if c.meets(vip, n) {
			score += 2
		}
		if addr, ok := vipAddr(vip); ok && slices.Contains(shown, addr) {
			score++
		}
		if score > bestScore {
			best, bestScore = i, score
		}
	}
	return best
}

// meets reports whether a VIP is what is asked for. Of a Service that asks for nothing, every address is.
func (c *Controller) meets(vip *v1alpha1.VIP, n need) bool {
	addr, ok := vipAddr(vip)
	if !ok || n.addr.IsValid() && addr != n.addr {
		return false
	}
	return n.pool == "" || n.pool == c.poolName(vip, addr)
}

// poolName is the pool that an address counts as of.
func (c *Controller) poolName(vip *v1alpha1.VIP, addr netip.Addr) string {
	if p := c.book.poolOf(addr, vip.Spec.Pool); p != nil {
		return p.Name
	}
	return vip.Spec.Pool
}

// leaves reports whether a Service is to leave a VIP that it has for another: because no pool covers it and the pool says so,
// or because it came to share it with an older Service that does not agree. What keeps it there although something is wrong
// is noted.
func (c *Controller) leaves(vip *v1alpha1.VIP, p *plan) bool {
	addr, ok := vipAddr(vip)
	if !ok {
		return false
	}
	for _, f := range vip.Spec.Frontends {
		if other := keyOfReference(f.Service); f.ConfigMap == "" && other != p.wish.asker && c.isOlder(other, &p.wish) &&
			disagreement(p.wish.frontends, []v1alpha1.Frontend{f}) != "" && !clash(p.wish.frontends, f) {
			return true
		}
	}
	cover := c.book.coverageOf(addr, vip.Spec.Pool, &p.wish)
	if !cover.covered && vip.Spec.Pool != "" {
		p.notes = append(p.notes, cover.text)
		return cover.reassign
	}
	return false
}

// clash reports whether a frontend has the port of one of mine: that port stays closed, and the address is kept.
func clash(mine []v1alpha1.Frontend, other v1alpha1.Frontend) bool {
	return slices.ContainsFunc(mine, func(f v1alpha1.Frontend) bool { return f.Port == other.Port && f.Protocol == other.Protocol })
}

// isOlder reports whether a Service exists that is older than the one that wishes.
func (c *Controller) isOlder(service asker, w *wish) bool {
	svc, err := c.serviceLister.Services(service.Namespace).Get(service.Name)
	return err == nil && compareAge(&wish{asker: service, created: svc.CreationTimestamp.Time}, w) < 0
}

// adopt enters the VIPs that were created or joined. Those that they replace become surplus.
func (p *plan) adopt(created []*v1alpha1.VIP) {
	for _, vip := range created {
		addr, ok := vipAddr(vip)
		if !ok {
			continue
		}
		family := pool.FamilyOf(addr)
		if old := p.current[family]; old != nil && old.Name != vip.Name {
			p.surplus = append(p.surplus, old)
			p.notes = nil // said of the address that goes
		}
		p.current[family] = vip
		p.surplus = slices.DeleteFunc(p.surplus, func(s *v1alpha1.VIP) bool { return s.Name == vip.Name }) // joined again
	}
}

// dropUnpublished makes VIPs surplus that the status does not show: half of what had to be whole. An address that clients know
// stays, for taking it away would break what works.
func (p *plan) dropUnpublished(svc *corev1.Service) {
	shown := addressesOf(svc)
	for family, vip := range p.current {
		if addr, ok := vipAddr(vip); ok && !slices.Contains(shown, addr) {
			p.surplus = append(p.surplus, vip)
			delete(p.current, family)
		}
	}
}

// ordered are the VIPs in the order of the Service's families.
func (p *plan) ordered(families []corev1.IPFamily) []*v1alpha1.VIP {
	var vips []*v1alpha1.VIP
	for _, f := range families {
		if vip := p.current[pool.Family(f)]; vip != nil {
			vips = append(vips, vip)
		}
	}
	return vips
}

// earlyWish is what a Service lacks, before the workers start; nil: nothing, or what it asks for cannot be read.
func (c *Controller) earlyWish(svc *corev1.Service) *wish {
	request, err := c.config.Rules.Request(svc)
	if err != nil {
		return nil // reported when it is worked on
	}
	own := slices.DeleteFunc(c.vipsOf(keyOf(svc)), func(vip *v1alpha1.VIP) bool {
		return !slices.ContainsFunc(vip.Spec.Frontends, frontendsOf(keyOf(svc), svc.UID))
	})
	if p := c.plan(svc, request, own); len(p.wish.needs) > 0 {
		return &p.wish
	}
	return nil
}
