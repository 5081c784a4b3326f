package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
	"github.com/fairlead/fairlead/pkg/source"
)

// reconcileClaim reserves an address for a claim, or gives back what a claim that is gone had.
func (c *Controller) reconcileClaim(ctx context.Context, name string) error {
	claim, exists := c.vips.newest(name)
	had := c.vipsOwnedBy(v1alpha1.Owner{Kind: v1alpha1.OwnerVIP, Name: name})
	if !exists && len(had) > 0 {
		live, err := c.config.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("read VIP %s before releasing what it claims: %w", name, err)
		default:
			claim, exists = live, true
		}
	}
	if !exists || claim.DeletionTimestamp != nil {
		c.book.settle(asker{Name: name})
		return c.dropOwner(ctx, had, func(o v1alpha1.Owner) bool { return o.Kind == v1alpha1.OwnerVIP && o.Name == name })
	}
	var own []*v1alpha1.VIP
	for _, vip := range had {
		if slices.ContainsFunc(vip.Spec.Owners, func(o v1alpha1.Owner) bool { return o.Name == name && o.UID == string(claim.UID) }) {
			own = append(own, vip)
		}
	}
	err := c.dropOwner(ctx, had, func(o v1alpha1.Owner) bool {
		return o.Kind == v1alpha1.OwnerVIP && o.Name == name && o.UID != string(claim.UID)
	})
	return errors.Join(err, c.bind(ctx, claim, own))
}

// bind gives a claim its address: the one it names, else the one that it was given before, else a free one.
func (c *Controller) bind(ctx context.Context, claim *v1alpha1.VIP, own []*v1alpha1.VIP) error {
	w, err := c.claimWish(claim, own)
	if err != nil {
		c.book.settle(asker{Name: claim.Name})
		return c.tellClaim(ctx, claim, metav1.ConditionFalse, v1alpha1.VIPReasonUnbound, err.Error())
	}
	t := claimTenant(claim, w)
	vips, failures, err := c.allocate(ctx, t, w)
	if err != nil {
		return err
	}
	if len(failures) > 0 {
		return c.tellClaim(ctx, claim, metav1.ConditionFalse, v1alpha1.VIPReasonUnbound, failures[0].text)
	}
	if len(vips) == 0 {
		at := max(0, slices.IndexFunc(own, func(vip *v1alpha1.VIP) bool { return vip.Spec.Address == claim.Spec.Address }))
		vips = own[at : at+1]
	}
	bound, _, err := c.syncVIP(ctx, t, vips[0])
	if err != nil {
		return err
	}
	if claim.Spec.Address == "" {
		named := claim.DeepCopy()
		named.Spec.Address = bound.Spec.Address
		if claim, err = c.updateVIP(ctx, named); err != nil {
			return err
		}
	}
	surplus := slices.DeleteFunc(own, func(vip *v1alpha1.VIP) bool { return vip.Name == bound.Name })
	err = c.dropOwner(ctx, surplus, func(o v1alpha1.Owner) bool { return o == *t.owner })
	message := "has " + bound.Spec.Address
	if len(claim.Spec.Frontends) > 0 {
		message += "; frontends of a claim are not served: have Services ask for the address by annotation " + source.AnnotationAddresses
	}
	return errors.Join(err, c.tellClaim(ctx, claim, metav1.ConditionTrue, v1alpha1.VIPReasonBound, message))
}

// claimWish is what a claim lacks, which may be nothing. The error says what of it cannot be read.
func (c *Controller) claimWish(claim *v1alpha1.VIP, own []*v1alpha1.VIP) (*wish, error) {
	w := &wish{asker: asker{Name: claim.Name}, created: claim.CreationTimestamp.Time}
	n := need{pool: claim.Spec.Pool, addrField: "spec.address", poolField: "spec.pool"}
	switch {
	case claim.Spec.Address != "":
		parsed, err := pool.ParseRange(claim.Spec.Address)
		if err != nil {
			return nil, fmt.Errorf("spec.address: %w", err)
		}
		if slices.ContainsFunc(own, func(vip *v1alpha1.VIP) bool { return vip.Name == source.VIPName(parsed.First) }) {
			return w, nil
		}
		n.addr, n.family = parsed.First, parsed.Family()
	case len(own) > 0:
		return w, nil
	default:
		n.family = pool.Family(claim.Spec.Family)
		if n.family == "" {
			n.family = c.book.claimFamily(claim.Spec.Pool)
		}
	}
	w.needs, w.families = []need{n}, []pool.Family{n.family}
	return w, nil
}

// tellClaim writes the condition Bound of a claim, and makes an event of it if it changed.
func (c *Controller) tellClaim(ctx context.Context, claim *v1alpha1.VIP, status metav1.ConditionStatus, reason, message string) error {
	changed, err := c.writeCondition(ctx, claim, metav1.Condition{Type: v1alpha1.VIPBound, Status: status, Reason: reason, Message: message})
	if changed && err == nil {
		kind := corev1.EventTypeNormal
		if status != metav1.ConditionTrue {
			kind = corev1.EventTypeWarning
		}
		c.config.Recorder.Event(claim, kind, reason, clip(message))
	}
	return err
}

// writeCondition makes a VIP object have a condition, and reports whether it had to write it. Speakers write the status too:
// what they overwrite is seen, and written again.
func (c *Controller) writeCondition(ctx context.Context, vip *v1alpha1.VIP, condition metav1.Condition) (bool, error) {
	object := vip.DeepCopy()
	condition.ObservedGeneration = 0 // what is said depends on other objects as well
	condition.LastTransitionTime = metav1.NewTime(c.config.Now())
	if !meta.SetStatusCondition(&object.Status.Conditions, condition) {
		return false, nil
	}
	updated, err := c.config.Fairlead.FairleadV1alpha1().VIPs().UpdateStatus(ctx, object, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("write condition %s of VIP %s: %w", condition.Type, vip.Name, err)
	}
	c.vips.wrote(updated.Name, updated)
	return true, nil
}

// vipsOwnedBy are the VIP objects with an owner of a kind and name, whatever its UID, by name.
func (c *Controller) vipsOwnedBy(owner v1alpha1.Owner) []*v1alpha1.VIP {
	owner.UID = ""
	names, err := c.vipIndex.IndexKeys(indexOwner, ownerKey(owner))
	if err != nil {
		names = nil // the index exists since watch: no other error is possible
	}
	has := func(vip *v1alpha1.VIP) bool {
		return slices.ContainsFunc(vip.Spec.Owners, func(o v1alpha1.Owner) bool { return ownerKey(o) == ownerKey(owner) })
	}
	names = append(slices.Clone(names), c.vips.unseen(has)...)
	slices.Sort(names)
	var vips []*v1alpha1.VIP
	for _, name := range slices.Compact(names) {
		if vip, ok := c.vips.newest(name); ok && vip.DeletionTimestamp == nil && has(vip) {
			vips = append(vips, vip)
		}
	}
	return vips
}

func ownerKey(o v1alpha1.Owner) string {
	return strings.Join([]string{o.Kind, o.Namespace, o.Name}, "/")
}

func (c *Controller) dropOwner(ctx context.Context, vips []*v1alpha1.VIP, drop func(v1alpha1.Owner) bool) error {
	var errs []error
	for _, vip := range vips {
		errs = append(errs, c.release(ctx, vip, func(v1alpha1.Frontend) bool { return false }, drop))
	}
	return errors.Join(errs...)
}
