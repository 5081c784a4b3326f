package controller

import (
	"slices"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
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
}

// withSettings gives a frontend what its VIP's pool says of backends. If the pool is gone it keeps what it had.
func withSettings(frontend v1alpha1.Frontend, pool *v1alpha1.IPPool, had []v1alpha1.Frontend) v1alpha1.Frontend {
	if pool != nil {
		frontend.Scheduler = pool.Spec.Scheduler
		frontend.Backends, frontend.HealthCheck = pool.Spec.Backends.DeepCopy(), pool.Spec.HealthCheck.DeepCopy()
		return frontend
	}
	old := slices.IndexFunc(had, func(f v1alpha1.Frontend) bool { return f.Port == frontend.Port && f.Protocol == frontend.Protocol })
	if old >= 0 {
		frontend.Scheduler = had[old].Scheduler
		frontend.Backends, frontend.HealthCheck = had[old].Backends.DeepCopy(), had[old].HealthCheck.DeepCopy()
	}
	return frontend
}
