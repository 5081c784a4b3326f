package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
	"github.com/fairlead/fairlead/pkg/source"
)

// tenant is what one object puts on a VIP: the frontends of a Service, those of a ConfigMap, or the reservation of a claim.
type tenant struct {
	name string // for messages
	// mine tells the frontends that the tenant put on a VIP.
	mine func(v1alpha1.Frontend) bool
	// frontends that it puts on an address of a family.
	frontends func(corev1.IPFamily) []v1alpha1.Frontend
	// owner that it puts on, or nil.
	owner *v1alpha1.Owner
	// has reports whether the tenant is on a VIP already.
	has func(*v1alpha1.VIP) bool
	// adds says that frontends of the tenant that are there stay.
	adds bool
	// joins says why the tenant cannot be on a VIP besides what is there; "" if it can.
	joins func(*v1alpha1.VIP) string
}

// serviceTenant puts a Service's frontends on its VIPs.
func serviceTenant(request source.Request, w *wish) tenant {
	key := types.NamespacedName{Namespace: request.Service.Namespace, Name: request.Service.Name}
	return tenant{
		name:      "Service " + key.String(),
		mine:      func(f v1alpha1.Frontend) bool { return f.ConfigMap == "" && keyOfReference(f.Service) == key },
		frontends: request.Frontends,
		has: func(vip *v1alpha1.VIP) bool {
			return slices.ContainsFunc(vip.Spec.Frontends, frontendsOf(key, types.UID(request.Service.UID)))
		},
		joins: func(vip *v1alpha1.VIP) string { return obstacleOn(vip, w) },
	}
}

// claimTenant reserves a VIP for a claim.
func claimTenant(claim *v1alpha1.VIP, w *wish) tenant {
	owner := v1alpha1.Owner{Kind: v1alpha1.OwnerVIP, Name: claim.Name, UID: string(claim.UID)}
	return tenant{
		name:      "claim " + claim.Name,
		mine:      func(v1alpha1.Frontend) bool { return false },
		frontends: func(corev1.IPFamily) []v1alpha1.Frontend { return nil },
		owner:     &owner,
		has:       func(vip *v1alpha1.VIP) bool { return slices.Contains(vip.Spec.Owners, owner) },
		joins:     func(vip *v1alpha1.VIP) string { return obstacleOn(vip, w) },
	}
}

// crowdedOut reports whether a Service has nothing on a VIP as it would be, because others have all its ports.
func (t tenant) crowdedOut(spec v1alpha1.VIPSpec) bool {
	return t.owner == nil && !slices.ContainsFunc(spec.Frontends, t.mine)
}

// isMade reports whether the controller made a VIP object, and may delete it.
func isMade(vip *v1alpha1.VIP) bool { return vip.Labels[v1alpha1.LabelManagedBy] == v1alpha1.ManagedBy }

// specFor is what a VIP should say with a tenant on it: the settings of its pool, the tenant's frontends, and what others put
// there as it is. Ports that others have are left to them, and named. The settings of a pool that is gone stay, and so do
// those that a user gave a VIP of his own.
func (c *Controller) specFor(t tenant, vip *v1alpha1.VIP, addr netip.Addr) (spec v1alpha1.VIPSpec, conflicts []string) {
	spec = *vip.Spec.DeepCopy()
	spec.Address = cmp.Or(spec.Address, addr.String())
	p := c.book.poolOf(addr, vip.Spec.Pool)
	fromPool(&spec, p, isMade(vip))
	var old, others []v1alpha1.Frontend
	for _, f := range spec.Frontends {
		if t.mine(f) {
			old = append(old, f)
		} else {
			others = append(others, f)
		}
	}
	had := old
	if vip.Spec.Pool == "" {
		had = nil // nothing of it is a pool's
	}
	for _, f := range t.frontends(corev1.IPFamily(pool.FamilyOf(addr))) {
		f, problem := withSettings(f, p, had)
		switch at := slices.IndexFunc(others, func(o v1alpha1.Frontend) bool { return o.Port == f.Port && o.Protocol == f.Protocol }); {
		case at < 0:
			others = append(others, f)
		case keyOfReference(others[at].Service) != keyOfReference(f.Service):
			problem = fmt.Sprintf("port %s of %s is that of Service %s; use another port, or another address",
				source.PortString(f), addr, keyOfReference(others[at].Service))
		case f.ConfigMap == "": // mapped to an address that it has itself
			others[at] = f
		}
		if problem != "" && !slices.Contains(conflicts, problem) {
			conflicts = append(conflicts, problem)
		}
	}
	if t.adds {
		others = slices.Concat(others, slices.DeleteFunc(old, func(f v1alpha1.Frontend) bool { return clash(others, f) }))
	}
	spec.Frontends = others
	source.SortFrontends(spec.Frontends)
	if t.owner != nil && !slices.Contains(spec.Owners, *t.owner) {
		spec.Owners = append(spec.Owners, *t.owner)
	}
	return spec, conflicts
}
