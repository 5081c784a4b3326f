package source

import corev1 "k8s.io/api/core/v1"

// DefaultClass is the spec.loadBalancerClass that names Fairlead unless configured otherwise.
const DefaultClass = "fairlead.dev/lb"

// Rules tell Services that are ours from those of other load balancers.
type Rules struct {
	// Class is the spec.loadBalancerClass that is ours.
	Class string
	// Classless makes Services of type LoadBalancer without a class ours too.
	Classless bool
	// Foreign makes the annotations of MetalLB and kube-vip mean here what they mean there.
	Foreign bool
}

// Ours reports whether a Service is to have addresses from Fairlead. One that is being deleted is not.
func (r Rules) Ours(svc *corev1.Service) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.DeletionTimestamp != nil {
		return false
	}
	if svc.Spec.LoadBalancerClass == nil {
		return r.Classless
	}
	return *svc.Spec.LoadBalancerClass == r.Class
}
