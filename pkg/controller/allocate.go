package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// maxRounds is how often in one go an allocation starts over because an address that looked free was not. After a cache as
// stale as that it is better to look at the asker afresh.
const maxRounds = 100

// errTaken says that an address that looked free is not.
var errTaken = errors.New("address is taken")

// allocate creates or joins a VIP object for each need that can be met.
func (c *Controller) allocate(ctx context.Context, t tenant, w *wish) (vips []*v1alpha1.VIP, failures []failure, err error) {
	if len(w.needs) == 0 {
		c.book.settle(w.asker)
		return nil, nil, nil
	}
	for range maxRounds {
		grants, failed := c.book.reserve(w)
		again := false
		var used []grant
		for _, g := range grants {
			vip, err := c.occupy(ctx, t, g)
			switch {
			case errors.Is(err, errTaken):
				again = true
			case err != nil: // what is reserved stays so until the next attempt
				return nil, nil, err
			default:
				vips, used = append(vips, vip), append(used, g)
				c.metrics.allocations.WithLabelValues(resultAllocated, string(g.family)).Inc()
			}
		}
		c.book.done(w.asker, used)
		w = w.without(used)
		if !again {
			for _, f := range failed {
				c.metrics.allocations.WithLabelValues(f.result, string(f.family)).Inc()
			}
			return vips, failed, nil
		}
	}
	return nil, nil, fmt.Errorf("allocate for %s: %d addresses that looked free were taken: %w", t.name, maxRounds, errBehind)
}

// occupy makes the VIP object of a granted address: this is the allocation. Where there is one already, the tenant joins it
// if what is there now still allows. The error is errTaken if not; the book knows the object then.
func (c *Controller) occupy(ctx context.Context, t tenant, g grant) (*v1alpha1.VIP, error) {
	vip := &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{
		Name: source.VIPName(g.addr), Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy},
	}}
	vip.Spec.Pool = g.pool
	vip.Spec, _ = c.specFor(t, vip, g.addr)
	client := c.config.Fairlead.FairleadV1alpha1().VIPs()
	made, err := client.Create(ctx, vip, metav1.CreateOptions{})
	c.unsure.failed(vip.Name, err)
	if apierrors.IsAlreadyExists(err) {
		made, err = c.join(ctx, t, g, vip.Name)
	}
	if errors.Is(err, errTaken) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("create VIP %s for %s: %w", vip.Name, t.name, err)
	}
	c.vips.wrote(made.Name, made)
	c.observeUnseen(made)
	klog.FromContext(ctx).Info("Allocated", "address", g.addr, "pool", g.pool, "for", t.name)
	return made, nil
}

// join puts a tenant on a VIP object as the API server has it now, if it is there already or may join.
func (c *Controller) join(ctx context.Context, t tenant, g grant, name string) (*v1alpha1.VIP, error) {
	live, err := c.config.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, errTaken // it went meanwhile: the next round gets it
	}
	if err != nil {
		return nil, err
	}
	if live.DeletionTimestamp != nil || !t.has(live) && (!g.joins || t.joins(live) != "") {
		c.observeUnseen(live)
		return nil, errTaken
	}
	spec, _ := c.specFor(t, live, g.addr)
	if equality.Semantic.DeepEqual(spec, live.Spec) {
		return live, nil // it was this tenant's already
	}
	if t.crowdedOut(spec) { // others took its ports since it was there
		c.observeUnseen(live)
		return nil, errTaken
	}
	changed := live.DeepCopy()
	changed.Spec = spec
	made, err := c.updateVIP(ctx, changed)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		c.observeUnseen(live)
		return nil, errTaken
	}
	return made, err
}

// confirmDelay is when an answer of the API server is held against the cache: watches are seldom a second behind.
const confirmDelay = 2 * time.Second

// observeUnseen enters a VIP object that the API server answered with and the cache may not show. It may be gone again before
// it ever shows there, and no event would tell: confirm looks.
func (c *Controller) observeUnseen(vip *v1alpha1.VIP) {
	c.book.observe(vip)
	c.poolQueue.AddAfter(poolItem{confirm: vip.Name}, confirmDelay)
}

// confirm forgets a VIP object that the book knows from an answer if the cache does not show it and it does not exist.
func (c *Controller) confirm(ctx context.Context, name string) error {
	uid, known := c.book.knows(name)
	if _, cached, err := c.vipIndex.GetByKey(name); err == nil && cached || !known {
		return nil
	}
	vip, err := c.config.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		if believed, ok := c.vips.newest(name); ok {
			defer c.enqueueTenantsOf(believed)
			defer c.countChanged(believed)
		}
		c.vips.forget(name)
		c.book.forgetVIP(name, uid)
		return nil
	case err != nil:
		return fmt.Errorf("look whether VIP %s exists: %w", name, err)
	}
	c.observeUnseen(vip) // the watch is late
	return nil
}
