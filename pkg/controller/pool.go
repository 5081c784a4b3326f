package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

// statusDelay gathers the allocations of a moment into one write of a pool's status: at most five a second for each pool,
// which a person cannot read faster.
const statusDelay = 200 * time.Millisecond

// poolItem is work about pools and what is used of them. One field is set.
type poolItem struct {
	rebuild bool   // read all pools anew
	name    string // write the status of a pool
	confirm string // look whether a VIP object exists
}

func (c *Controller) reconcilePool(ctx context.Context, item poolItem) error {
	switch {
	case item.rebuild:
		c.rebuild(ctx)
		return nil
	case item.confirm != "":
		return c.confirm(ctx, item.confirm)
	default:
		return c.writePoolStatus(ctx, item.name)
	}
}

// rebuild takes over all pools as they are cached. Those on VIPs look at them again, whose settings come from pools, and every
// pool's status may have changed with another pool.
func (c *Controller) rebuild(ctx context.Context) {
	objects, err := c.poolLister.List(labels.Everything())
	if err != nil { // a list from memory: nothing can fail
		klog.FromContext(ctx).Error(err, "Could not list IPPools from the cache")
		return
	}
	c.book.setPools(objects)
	for _, object := range objects {
		c.poolQueue.Add(poolItem{name: object.Name})
	}
	for _, object := range c.vipIndex.List() {
		if vip, ok := object.(*v1alpha1.VIP); ok {
			c.enqueueTenantsOf(vip)
		}
	}
	c.enqueueWaiting()
}

// enqueueWaiting lets those that still wait say anew what they wait for: the reasons may be others now.
func (c *Controller) enqueueWaiting() {
	for _, who := range c.book.waitingNames() {
		c.wake(who)
	}
}

// writePoolStatus writes counts and conditions of a pool if they differ, and keeps it from being deleted while it is used.
func (c *Controller) writePoolStatus(ctx context.Context, name string) error {
	object, ok := c.poolStatuses.newest(name)
	if !ok {
		return nil
	}
	changed := object.DeepCopy()
	current, keep := false, false
	c.book.withPool(name, func(p *poolState) {
		if current = p.object.UID == object.UID && p.object.Generation == object.Generation; current {
			keep = c.fillStatus(p, changed)
		}
	})
	if !current {
		return nil // about to be read anew
	}
	if !equality.Semantic.DeepEqual(object.Status, changed.Status) {
		updated, err := c.config.Fairlead.FairleadV1alpha1().IPPools().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("write the status of IPPool %s: %w", name, err)
		}
		c.poolStatuses.wrote(name, updated)
		if c.tellPool(object, updated) {
			c.enqueueWaiting()
		}
		object = updated
	}
	return c.writeFinalizer(ctx, object, keep)
}

// writeFinalizer puts our finalizer on a pool, and takes it off when it is being deleted and used no more.
func (c *Controller) writeFinalizer(ctx context.Context, object *v1alpha1.IPPool, keep bool) error {
	has := slices.Contains(object.Finalizers, v1alpha1.PoolFinalizer)
	deleting := object.DeletionTimestamp != nil
	if has == keep || !has && deleting { // a pool that is being deleted takes no finalizer any more
		return nil
	}
	finalizers := slices.DeleteFunc(slices.Clone(object.Finalizers), func(f string) bool { return f == v1alpha1.PoolFinalizer })
	if keep {
		finalizers = append(finalizers, v1alpha1.PoolFinalizer)
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": object.UID, "resourceVersion": object.ResourceVersion, "finalizers": orNull(finalizers)},
	})
	if err != nil {
		return fmt.Errorf("encode the finalizers of IPPool %s: %w", object.Name, err)
	}
	updated, err := c.config.Fairlead.FairleadV1alpha1().IPPools().Patch(ctx, object.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write the finalizers of IPPool %s: %w", object.Name, err)
	}
	if err == nil && !deleting {
		c.poolStatuses.wrote(object.Name, updated)
	}
	return nil
}

// fillStatus makes the status of a copy of a pool what it should be, and reports whether the pool is to be kept.
func (c *Controller) fillStatus(p *poolState, object *v1alpha1.IPPool) (keep bool) {
	usage := usageOf(p)
	object.Status.IPv4, object.Status.IPv6 = shownUsage(usage, pool.IPv4), shownUsage(usage, pool.IPv6)
	set := func(kind string, status metav1.ConditionStatus, reason, message string) {
		meta.SetStatusCondition(&object.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message,
			ObservedGeneration: object.Generation, LastTransitionTime: metav1.NewTime(c.config.Now())})
	}
	if object.DeletionTimestamp != nil {
		vips := c.book.inUse(p)
		set(v1alpha1.PoolReady, metav1.ConditionFalse, v1alpha1.PoolReasonDeleting, clip("it is being deleted, and gives no address; "+waitsFor(vips)))
		return len(vips) > 0
	}
	status, reason, message := judge(p, usage)
	set(v1alpha1.PoolReady, status, reason, clip(message))
	if p.reason == v1alpha1.PoolReasonOverlap {
		set(v1alpha1.PoolOverlap, metav1.ConditionTrue, p.reason, clip(p.problem))
	} else {
		set(v1alpha1.PoolOverlap, metav1.ConditionFalse, v1alpha1.PoolReasonDisjoint, "no older pool has any of its addresses")
	}
	if full, free := fullFamilies(usage); len(full) > 0 {
		set(v1alpha1.PoolExhausted, metav1.ConditionTrue, v1alpha1.PoolReasonExhausted, strings.Join(full, "; "))
	} else if len(free) == 0 {
		set(v1alpha1.PoolExhausted, metav1.ConditionFalse, v1alpha1.PoolReasonInvalid, "none of its addresses can be read")
	} else {
		set(v1alpha1.PoolExhausted, metav1.ConditionFalse, v1alpha1.PoolReasonReady, strings.Join(free, " and ")+" addresses are available")
	}
	return true
}

// waitsFor names the addresses that keep a pool that is being deleted.
func waitsFor(vips []*v1alpha1.VIP) string {
	if len(vips) == 0 {
		return "none of its addresses is used"
	}
	var names []string
	for i, vip := range vips {
		if i == maxNamed {
			names = append(names, fmt.Sprintf("and %d more", len(vips)-i))
			break
		}
		names = append(names, vip.Spec.Address+" of "+holderOf(vip))
	}
	return "it waits for addresses that no other pool holds: " + strings.Join(names, ", ")
}

func shownUsage(usage map[pool.Family]pool.Usage, family pool.Family) *v1alpha1.FamilyUsage {
	u, ok := usage[family]
	if !ok {
		return nil
	}
	return &v1alpha1.FamilyUsage{Capacity: u.Capacity.String(), Allocated: u.Allocated.String(), Available: u.Available.String()}
}

// judge is the condition Ready of a pool. The message of one that is ready has no counts, so that it changes seldom.
func judge(p *poolState, usage map[pool.Family]pool.Usage) (status metav1.ConditionStatus, reason, message string) {
	if p.reason != "" {
		return metav1.ConditionFalse, p.reason, p.problem
	}
	full, free := fullFamilies(usage)
	switch {
	case len(free) == 0:
		return metav1.ConditionFalse, v1alpha1.PoolReasonExhausted, strings.Join(full, "; ") +
			"; add a range, or delete Services that need their addresses no more"
	case len(full) > 0:
		return metav1.ConditionTrue, v1alpha1.PoolReasonReady, strings.Join(free, ", ") + " addresses are available; none of " + strings.Join(full, "; ")
	default:
		return metav1.ConditionTrue, v1alpha1.PoolReasonReady, strings.Join(free, " and ") + " addresses are available"
	}
}

// fullFamilies tells the families of a pool that have no free address, with their counts, from those that have one.
func fullFamilies(usage map[pool.Family]pool.Usage) (full, free []string) {
	for _, family := range []pool.Family{pool.IPv4, pool.IPv6} {
		if u, ok := usage[family]; ok && u.Available.Sign() == 0 {
			full = append(full, fmt.Sprintf("%s: %s of %s addresses allocated", family, u.Allocated, u.Capacity))
		} else if ok {
			free = append(free, string(family))
		}
	}
	return full, free
}

// tellPool makes an event of a condition that changed, and reports whether one did.
func (c *Controller) tellPool(old, object *v1alpha1.IPPool) bool {
	before := meta.FindStatusCondition(old.Status.Conditions, v1alpha1.PoolReady)
	after := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.PoolReady)
	if after == nil || before != nil && before.Reason == after.Reason && before.Message == after.Message {
		return false
	}
	kind := corev1.EventTypeNormal
	if after.Status != metav1.ConditionTrue {
		kind = corev1.EventTypeWarning
	}
	c.config.Recorder.Event(object, kind, after.Reason, clip(after.Message))
	return true
}
