package plan

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func isLocal(frontend *v1alpha1.Frontend) bool {
	return frontend.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// onPods reports whether the Service's endpoints are the backends.
func onPods(frontend *v1alpha1.Frontend) bool {
	return frontend.Backends == nil || frontend.Backends.Kind == "" || frontend.Backends.Kind == v1alpha1.BackendPods
}

func serviceOf(frontend *v1alpha1.Frontend) types.NamespacedName {
	return types.NamespacedName{Namespace: frontend.Service.Namespace, Name: frontend.Service.Name}
}

// nodesWithPods are the nodes with a ready endpoint, or, if there is none, with one that terminates and still serves (KEP-1669).
func nodesWithPods(all []*discoveryv1.EndpointSlice) map[string]bool {
	best, nodes := absent, map[string]bool{}
	for _, slice := range all {
		for _, endpoint := range slice.Endpoints {
			standing := standingOf(endpoint.Conditions)
			if endpoint.NodeName == nil || standing == absent || standing > best {
				continue
			}
			if standing < best {
				best = standing
				clear(nodes)
			}
			nodes[*endpoint.NodeName] = true
		}
	}
	return nodes
}

// localPods counts the ready endpoints of a Service on a node, of the family that has most: an endpoint of a dual-stack
// Service is listed once for each.
func localPods(all []*discoveryv1.EndpointSlice, node string) int {
	count := map[discoveryv1.AddressType]int{}
	for _, slice := range all {
		for _, endpoint := range slice.Endpoints {
			if endpoint.NodeName != nil && *endpoint.NodeName == node && standingOf(endpoint.Conditions) == ready {
				count[slice.AddressType]++
			}
		}
	}
	return max(count[discoveryv1.AddressTypeIPv4], count[discoveryv1.AddressTypeIPv6])
}

// lacksPods names a Service with externalTrafficPolicy Local, of those of a VIP, that has no pod on a node; "" if none does.
func lacksPods(needs map[types.NamespacedName]map[string]bool, node string) string {
	lacking := ""
	for service, nodes := range needs {
		if name := service.String(); !nodes[node] && (lacking == "" || name < lacking) {
			lacking = name
		}
	}
	return lacking
}

// localServices are the nodes with pods of each Service that wants its VIP to be there.
func localServices(vip *v1alpha1.VIP, endpoints func(types.NamespacedName) []*discoveryv1.EndpointSlice) map[types.NamespacedName]map[string]bool {
	var needs map[types.NamespacedName]map[string]bool
	for i := range vip.Spec.Frontends {
		frontend := &vip.Spec.Frontends[i]
		if service := serviceOf(frontend); isLocal(frontend) && onPods(frontend) && needs[service] == nil {
			if needs == nil {
				needs = map[types.NamespacedName]map[string]bool{}
			}
			needs[service] = nodesWithPods(endpoints(service))
		}
	}
	return needs
}
