package source

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// Annotations of a Service.
const (
	// AnnotationAddresses asks for addresses: at most one of each family, separated by commas.
	AnnotationAddresses = v1alpha1.GroupName + "/addresses"
	// AnnotationPool asks for addresses of one IPPool.
	AnnotationPool = v1alpha1.GroupName + "/pool"
	// AnnotationShareKey lets the Service share its addresses with others that have the same key, on other ports.
	AnnotationShareKey = v1alpha1.GroupName + "/share-key"
	// AnnotationShareNamespaces names the other namespaces that the Service shares with, separated by commas; "*": all.
	AnnotationShareNamespaces = v1alpha1.GroupName + "/share-namespaces"
)

// Annotations of other load balancers that are understood where Rules.Foreign says so: those of MetalLB, with the names that
// it had before 0.13.10, and that of kube-vip.
const (
	metalLBAddresses    = "metallb.io/loadBalancerIPs"
	metalLBPool         = "metallb.io/address-pool"
	metalLBShareKey     = "metallb.io/allow-shared-ip"
	metalLBOldAddresses = "metallb.universe.tf/loadBalancerIPs"
	metalLBOldPool      = "metallb.universe.tf/address-pool"
	metalLBOldShareKey  = "metallb.universe.tf/allow-shared-ip"
	kubeVIPAddresses    = "kube-vip.io/loadbalancerIPs"
)

// value is what a Service says, and in which field.
type value struct{ value, field string }

// asked is what a Service asks for by annotations, and by spec.loadBalancerIP, which they override.
type asked struct {
	addresses, pool, shareKey, shareNamespaces value
}

// annotations reads what the Service asks for, ours before those of others.
func (r Rules) annotations(svc *corev1.Service) asked {
	first := func(names ...string) value {
		for i, name := range names {
			if text := strings.TrimSpace(svc.Annotations[name]); text != "" && (i == 0 || r.Foreign) {
				return value{text, "annotation " + name}
			}
		}
		return value{}
	}
	a := asked{
		addresses:       first(AnnotationAddresses, metalLBAddresses, metalLBOldAddresses, kubeVIPAddresses),
		pool:            first(AnnotationPool, metalLBPool, metalLBOldPool),
		shareKey:        first(AnnotationShareKey, metalLBShareKey, metalLBOldShareKey),
		shareNamespaces: first(AnnotationShareNamespaces),
	}
	if text := strings.TrimSpace(svc.Spec.LoadBalancerIP); a.addresses.value == "" && text != "" {
		a.addresses = value{text, "spec.loadBalancerIP"}
	}
	return a
}

// share is what the Service agrees to. MetalLB's key is the same key in every namespace.
func (a asked) share(svc *corev1.Service) (*v1alpha1.Share, error) {
	if a.shareKey.value == "" {
		if a.shareNamespaces.value != "" {
			return nil, &Error{a.shareNamespaces.field, a.shareNamespaces.value, "is without effect",
				"add annotation " + AnnotationShareKey + ", which says what the Services share by"}
		}
		return nil, nil
	}
	share := &v1alpha1.Share{Key: a.shareKey.value, Backends: localBackends(svc)}
	for name := range strings.SplitSeq(a.shareNamespaces.value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			share.Namespaces = append(share.Namespaces, name)
		}
	}
	if !strings.HasSuffix(a.shareKey.field, AnnotationShareKey) {
		share.Namespaces = []string{everyNamespace}
	}
	slices.Sort(share.Namespaces)
	return share, nil
}

const everyNamespace = "*"

// localBackends tells apart the backends of Services with externalTrafficPolicy Local. Without a selector nobody can say that
// they are those of another Service.
func localBackends(svc *corev1.Service) string {
	switch {
	case svc.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal:
		return ""
	case len(svc.Spec.Selector) == 0:
		return "endpoints of " + svc.Namespace + "/" + svc.Name
	default:
		return svc.Namespace + ": " + labels.FormatLabels(svc.Spec.Selector)
	}
}

// Disagreement says why two frontends of different Services cannot be on one address; "" if they can.
func Disagreement(a, b v1alpha1.Frontend) string {
	allows := func(share *v1alpha1.Share, namespace string) bool {
		return slices.Contains(share.Namespaces, namespace) || slices.Contains(share.Namespaces, everyNamespace)
	}
	other := b.Service.Namespace + "/" + b.Service.Name
	switch {
	case a.Port == b.Port && a.Protocol == b.Protocol:
		return "port " + PortString(a) + " is that of Service " + other
	case b.Share == nil:
		return "Service " + other + " shares it with nobody: it has no annotation " + AnnotationShareKey
	case a.Share == nil:
		return "annotation " + AnnotationShareKey + " \"" + b.Share.Key + "\" is needed to share it with Service " + other
	case a.Share.Key != b.Share.Key:
		return "Service " + other + " shares it by key \"" + b.Share.Key + "\", not \"" + a.Share.Key + "\""
	case a.Service.Namespace != b.Service.Namespace &&
		(!allows(a.Share, b.Service.Namespace) || !allows(b.Share, a.Service.Namespace)):
		return "Service " + other + " is of another namespace: both need annotation " + AnnotationShareNamespaces
	case a.Share.Backends != b.Share.Backends:
		return "with externalTrafficPolicy Local it can be shared only by Services of the same selector, and Service " + other + " has another"
	}
	return ""
}
