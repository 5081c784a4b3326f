package controller

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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

// rebuild takes over all pools as they are cached. Services look at their VIPs again, whose settings come from pools, and every
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
			c.enqueueServicesOf(vip)
		}
	}
	c.enqueueWaiting()
}

// enqueueWaiting lets those that still wait say anew what they wait for: the reasons may be others now.
func (c *Controller) enqueueWaiting() {
	for _, service := range c.book.waitingNames() {
		c.serviceQueue.Add(service)
	}
}

// writePoolStatus writes counts and condition of a pool if they differ.
func (c *Controller) writePoolStatus(ctx context.Context, name string) error {
	object, ok := c.poolStatuses.newest(name)
	if !ok {
		return nil
	}
	changed := object.DeepCopy()
	known := c.book.withPool(name, func(p *poolState) {
		if p.object.UID == object.UID && p.object.Generation == object.Generation {
			c.fillStatus(p, changed)
		}
	})
	if !known || equality.Semantic.DeepEqual(object.Status, changed.Status) {
		return nil
	}
	updated, err := c.config.Fairlead.FairleadV1alpha1().IPPools().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("write the status of IPPool %s: %w", name, err)
	}
	c.poolStatuses.wrote(name, updated)
	c.tellPool(object, updated)
	return nil
}

// fillStatus makes the status of a copy of a pool what it should be.
func (c *Controller) fillStatus(p *poolState, object *v1alpha1.IPPool) {
	usage := usageOf(p)
	object.Status.IPv4, object.Status.IPv6 = shownUsage(usage, pool.IPv4), shownUsage(usage, pool.IPv6)
	condition := metav1.Condition{
		Type: v1alpha1.PoolReady, ObservedGeneration: object.Generation, LastTransitionTime: metav1.NewTime(c.config.Now()),
	}
	condition.Status, condition.Reason, condition.Message = judge(p, usage)
	meta.SetStatusCondition(&object.Status.Conditions, condition)
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
	var full, free []string
	for _, family := range []pool.Family{pool.IPv4, pool.IPv6} {
		if u, ok := usage[family]; ok && u.Available.Sign() == 0 {
			full = append(full, fmt.Sprintf("%s: %s of %s addresses allocated", family, u.Allocated, u.Capacity))
		} else if ok {
			free = append(free, string(family))
		}
	}
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

// tellPool makes an event of a condition that changed.
func (c *Controller) tellPool(old, object *v1alpha1.IPPool) {
	before := meta.FindStatusCondition(old.Status.Conditions, v1alpha1.PoolReady)
	after := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.PoolReady)
	if after == nil || before != nil && before.Reason == after.Reason && before.Message == after.Message {
		return
	}
	kind := corev1.EventTypeNormal
	if after.Status != metav1.ConditionTrue {
		kind = corev1.EventTypeWarning
	}
	c.config.Recorder.Event(object, kind, after.Reason, clip(after.Message))
}
