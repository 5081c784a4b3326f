package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// ingress is what the status of a Service of ours should show. ipMode Proxy (KEP-1860) keeps kube-proxy from answering for the
// address itself. A Service that has no address shows no entry of ours, but keeps those that another load balancer may have
// left: without an address of its own Fairlead has nothing to put in their place.
func (c *Controller) ingress(svc *corev1.Service, vips []*v1alpha1.VIP) []corev1.LoadBalancerIngress {
	if len(vips) == 0 {
		return slices.DeleteFunc(slices.Clone(svc.Status.LoadBalancer.Ingress), c.fromUs)
	}
	proxy := corev1.LoadBalancerIPModeProxy
	entries := make([]corev1.LoadBalancerIngress, 0, len(vips))
	for _, vip := range vips {
		entries = append(entries, corev1.LoadBalancerIngress{IP: vip.Spec.Address, IPMode: &proxy})
	}
	return entries
}

// fromUs reports whether an entry is one that Fairlead writes: ipMode Proxy, or an address of a pool.
func (c *Controller) fromUs(entry corev1.LoadBalancerIngress) bool {
	if entry.IPMode != nil && *entry.IPMode == corev1.LoadBalancerIPModeProxy {
		return true
	}
	addr, err := netip.ParseAddr(entry.IP)
	return err == nil && len(c.book.poolsWith(addr)) > 0
}

// withoutAddresses are the entries of the status but those of VIPs.
func withoutAddresses(svc *corev1.Service, vips []*v1alpha1.VIP) []corev1.LoadBalancerIngress {
	return slices.DeleteFunc(slices.Clone(svc.Status.LoadBalancer.Ingress), func(entry corev1.LoadBalancerIngress) bool {
		return slices.ContainsFunc(vips, func(vip *v1alpha1.VIP) bool { return vip.Spec.Address == entry.IP })
	})
}

// publish makes the status of a Service show its addresses and our condition (nil: none), unless it does, or somebody wrote
// the Service since. What changed becomes an event: what was told last stands in the status, so that another leader does not
// tell it again.
func (c *Controller) publish(ctx context.Context, svc *corev1.Service, entries []corev1.LoadBalancerIngress, condition *metav1.Condition,
	released []*v1alpha1.VIP) error {
	conditions := slices.Clone(svc.Status.Conditions)
	before := meta.FindStatusCondition(svc.Status.Conditions, ServiceAllocated)
	told := true
	if condition == nil {
		meta.RemoveStatusCondition(&conditions, ServiceAllocated)
	} else {
		told = !meta.SetStatusCondition(&conditions, *condition)
	}
	moved := !equality.Semantic.DeepEqual(svc.Status.LoadBalancer.Ingress, entries)
	if !moved && told && (condition != nil || before == nil) {
		if condition == nil || len(released) == 0 {
			return nil
		}
		// What we have of the status may be older than a write of ours whose answer was lost, and that may show what is to
		// be released. A write, of anything, proves that it is not, and keeps one that is still under way from landing.
		condition.Message = clip("releases " + listAddresses(released) + "; " + condition.Message)
		told = !meta.SetStatusCondition(&conditions, *condition)
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": svc.UID, "resourceVersion": svc.ResourceVersion},
		"status": map[string]any{
			"loadBalancer": map[string]any{"ingress": orNull(entries)}, "conditions": orNull(conditions),
		},
	})
	if err != nil {
		return fmt.Errorf("encode the status of Service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	updated, err := c.config.Core.CoreV1().Services(svc.Namespace).
		Patch(ctx, svc.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("write the status of Service %s/%s, which is gone: %w", svc.Namespace, svc.Name, errBehind)
	}
	if err != nil {
		return fmt.Errorf("write the status of Service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	c.services.wrote(keyOf(svc).String(), updated)
	c.tellService(svc, condition, told, moved, released)
	return nil
}

// orNull makes an empty list null, which a merge patch removes (RFC 7396).
func orNull[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}
