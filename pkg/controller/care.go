package controller

import (
	"context"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// reconcileVIP looks after a VIP object beyond what its Services do: claims, what claims and ConfigMaps that are gone left,
// and the settings and the coverage of those that have no Service.
func (c *Controller) reconcileVIP(ctx context.Context, name string) error {
	addr, err := source.ParseVIPName(name)
	if err != nil {
		return c.reconcileClaim(ctx, name)
	}
	vip, exists := c.vips.newest(name)
	if !exists || vip.DeletionTimestamp != nil {
		return nil
	}
	if len(vip.Spec.Frontends) == 0 && len(vip.Spec.Owners) == 0 && isMade(vip) {
		return c.deleteVIP(ctx, vip)
	}
	if !servesServices(vip) {
		spec := *vip.Spec.DeepCopy()
		fromPool(&spec, c.book.poolOf(addr, spec.Pool), isMade(vip))
		if !equality.Semantic.DeepEqual(spec, vip.Spec) {
			changed := vip.DeepCopy()
			changed.Spec = spec
			if vip, err = c.updateVIP(ctx, changed); err != nil {
				return err
			}
		}
	}
	if condition, wrong := c.coverCondition(vip, addr); wrong {
		_, err = c.writeCondition(ctx, vip, condition)
	}
	return err
}

// servesServices reports whether a Service looks after a VIP.
func servesServices(vip *v1alpha1.VIP) bool {
	return slices.ContainsFunc(vip.Spec.Frontends, func(f v1alpha1.Frontend) bool { return f.ConfigMap == "" && f.Service.UID != "" })
}

// coverCondition is the condition Covered that a VIP should have, and whether it has another. One that never was in a pool, or
// always was, has none.
func (c *Controller) coverCondition(vip *v1alpha1.VIP, addr netip.Addr) (condition metav1.Condition, wrong bool) {
	condition = metav1.Condition{Type: v1alpha1.VIPCovered, Status: metav1.ConditionTrue, Reason: v1alpha1.VIPReasonInPool, Message: "a pool holds the address"}
	has := meta.FindStatusCondition(vip.Status.Conditions, v1alpha1.VIPCovered)
	if cover := c.book.coverageOf(addr, vip.Spec.Pool, nil); vip.Spec.Pool != "" && !cover.covered {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, v1alpha1.VIPReasonNotInPool, cover.text
	} else if has == nil {
		return condition, false
	}
	return condition, has == nil || has.Status != condition.Status || has.Message != condition.Message
}
