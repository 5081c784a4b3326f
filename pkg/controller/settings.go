package controller

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// fromPool makes the settings of a VIP those of its pool; of a VIP that a user made, those that he left open.
func fromPool(spec *v1alpha1.VIPSpec, pool *v1alpha1.IPPool, made bool) {
	if pool == nil {
		return
	}
	settings := pool.Spec.DeepCopy()
	spec.Pool = pool.Name
	if made || spec.Interfaces == nil {
		spec.Interfaces = settings.Interfaces
	}
	if made || spec.NodeSelector == nil {
		spec.NodeSelector = settings.NodeSelector
	}
	if made || spec.PreferredNodes == nil {
		spec.PreferredNodes = settings.PreferredNodes
	}
}

// withSettings gives a frontend what its VIP's pool says where its Service says nothing. If the pool is gone it keeps what it
// had. The problem is what the Service may not say.
func withSettings(frontend v1alpha1.Frontend, pool *v1alpha1.IPPool, had []v1alpha1.Frontend) (v1alpha1.Frontend, string) {
	problem := ""
	if b := frontend.Backends; b != nil && !mayChoose(pool, b.Kind) {
		problem = whyNotChoose(pool, b.Kind)
		frontend.Backends = nil
	}
	if pool != nil {
		return filled(frontend, v1alpha1.Frontend{
			Scheduler: pool.Spec.Scheduler, Forwarding: pool.Spec.Forwarding, Backends: pool.Spec.Backends,
			HealthCheck: pool.Spec.HealthCheck, DrainSeconds: pool.Spec.DrainSeconds,
		}), problem
	}
	old := slices.IndexFunc(had, func(f v1alpha1.Frontend) bool { return f.Port == frontend.Port && f.Protocol == frontend.Protocol })
	if old >= 0 {
		frontend = filled(frontend, had[old])
	}
	return frontend, problem
}

// filled is a frontend with another one's settings where it has none.
func filled(frontend, from v1alpha1.Frontend) v1alpha1.Frontend {
	frontend.Scheduler = cmp.Or(frontend.Scheduler, from.Scheduler)
	frontend.Forwarding = cmp.Or(frontend.Forwarding, from.Forwarding)
	if frontend.Backends == nil {
		frontend.Backends = from.Backends.DeepCopy()
	}
	if frontend.HealthCheck == nil {
		frontend.HealthCheck = from.HealthCheck.DeepCopy()
	}
	if frontend.DrainSeconds == nil && from.DrainSeconds != nil {
		seconds := *from.DrainSeconds
		frontend.DrainSeconds = &seconds
	}
	return frontend
}

// choices are the kinds of backends that every Service may choose. Those of kind Nodes may be anything that listens on a node.
var choices = []v1alpha1.BackendKind{v1alpha1.BackendPods, v1alpha1.BackendNodePort}

// mayChoose reports whether a pool (nil: the address is in none) lets Services choose a kind of backends: those that it lists,
// and its own.
func mayChoose(pool *v1alpha1.IPPool, kind v1alpha1.BackendKind) bool {
	if pool == nil {
		return slices.Contains(choices, kind)
	}
	allowed := pool.Spec.ServiceBackends
	if len(allowed) == 0 {
		allowed = choices
	}
	return slices.Contains(allowed, kind) || pool.Spec.Backends != nil && pool.Spec.Backends.Kind == kind
}

func whyNotChoose(pool *v1alpha1.IPPool, kind v1alpha1.BackendKind) string {
	if pool == nil {
		return fmt.Sprintf("annotation %s %q is for addresses of a pool that allows it: make an IPPool of the address with %s in spec.serviceBackends",
			source.AnnotationBackend, kind, kind)
	}
	return fmt.Sprintf("annotation %s %q is not for Services of IPPool %s: add %s to its spec.serviceBackends, or choose another kind; until then its own backends serve",
		source.AnnotationBackend, kind, pool.Name, kind)
}
