package controller

import (
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// syncVIP updates a VIP object whose spec is not what it should be with a tenant on it. It names the ports that others have.
func (c *Controller) syncVIP(ctx context.Context, t tenant, vip *v1alpha1.VIP) (*v1alpha1.VIP, []string, error) {
	addr, ok := vipAddr(vip)
	if !ok {
		return vip, nil, nil
	}
	spec, conflicts := c.specFor(t, vip, addr)
	if equality.Semantic.DeepEqual(spec, vip.Spec) {
		return vip, conflicts, nil
	}
	if t.crowdedOut(spec) {
		return vip, nil, fmt.Errorf("%s has no port left on VIP %s: %w", t.name, vip.Name, errBehind)
	}
	changed := vip.DeepCopy()
	changed.Spec = spec
	synced, err := c.updateVIP(ctx, changed)
	return synced, conflicts, err
}

// updateVIP writes a VIP object if nobody wrote it since.
func (c *Controller) updateVIP(ctx context.Context, vip *v1alpha1.VIP) (*v1alpha1.VIP, error) {
	updated, err := c.config.Fairlead.FairleadV1alpha1().VIPs().Update(ctx, vip, metav1.UpdateOptions{})
	c.unsure.failed(vip.Name, err)
	if err != nil {
		return nil, fmt.Errorf("update VIP %s: %w", vip.Name, err)
	}
	c.vips.wrote(updated.Name, updated)
	c.book.observe(updated)
	return updated, nil
}

// release removes frontends and owners from a VIP, and the VIP with the last of them, unless a user made it. One that is gone
// already, or is not the same any more, is no error.
func (c *Controller) release(ctx context.Context, vip *v1alpha1.VIP, drop matcher, dropOwner func(v1alpha1.Owner) bool) error {
	frontends := slices.DeleteFunc(slices.Clone(vip.Spec.Frontends), drop)
	owners := slices.DeleteFunc(slices.Clone(vip.Spec.Owners), dropOwner)
	switch {
	case len(frontends) == len(vip.Spec.Frontends) && len(owners) == len(vip.Spec.Owners):
		return nil
	case len(frontends) > 0 || len(owners) > 0 || !isMade(vip):
		changed := vip.DeepCopy()
		changed.Spec.Frontends, changed.Spec.Owners = frontends, owners
		if _, err := c.updateVIP(ctx, changed); !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	}
	return c.deleteVIP(ctx, vip)
}

// deleteVIP deletes a VIP object if nobody wrote it since.
func (c *Controller) deleteVIP(ctx context.Context, vip *v1alpha1.VIP) error {
	err := c.config.Fairlead.FairleadV1alpha1().VIPs().Delete(ctx, vip.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &vip.UID, ResourceVersion: &vip.ResourceVersion},
	})
	c.unsure.failed(vip.Name, err)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete VIP %s: %w", vip.Name, err)
	}
	c.vips.removed(vip.Name, vip)
	c.book.forgetVIP(vip.Name, vip.UID)
	return nil
}

// noOwner keeps every owner.
func noOwner(v1alpha1.Owner) bool { return false }
