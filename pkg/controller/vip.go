package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
	"github.com/fairlead/fairlead/pkg/source"
)

// maxRounds is how often in one go an allocation starts over because an address that looked free was not. After a cache as
// stale as that it is better to look at the Service afresh.
const maxRounds = 100

// errTaken says that an address that looked free is not.
var errTaken = errors.New("address is taken")

// allocate creates a VIP object for each need that can be met.
func (c *Controller) allocate(ctx context.Context, request source.Request, w *wish) (created []*v1alpha1.VIP, failures []failure, err error) {
	if len(w.needs) == 0 {
		c.book.settle(w.service)
		return nil, nil, nil
	}
	for range maxRounds {
		grants, failed := c.book.reserve(w)
		again := false
		var used []grant
		for _, g := range grants {
			vip, err := c.createVIP(ctx, request, g)
			switch {
			case errors.Is(err, errTaken):
				again = true
			case err != nil: // what is reserved stays so until the next attempt
				return nil, nil, err
			default:
				created, used = append(created, vip), append(used, g)
				c.metrics.allocations.WithLabelValues(resultAllocated, string(g.family)).Inc()
			}
		}
		c.book.done(w.service, used)
		w = w.without(used)
		if !again {
			for _, f := range failed {
				c.metrics.allocations.WithLabelValues(f.result, string(f.family)).Inc()
			}
			return created, failed, nil
		}
	}
	return nil, nil, fmt.Errorf("allocate for Service %s: %d addresses that looked free were taken: %w", w.service, maxRounds, errBehind)
}

// createVIP makes the VIP object of a granted address: this is the allocation. The error is errTaken if the address is
// another's; the book knows it then.
func (c *Controller) createVIP(ctx context.Context, request source.Request, g grant) (*v1alpha1.VIP, error) {
	vip := &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: source.VIPName(g.addr)}}
	vip.Spec = c.specFor(request, &v1alpha1.VIP{Spec: v1alpha1.VIPSpec{Pool: g.pool}}, g.addr)
	client := c.config.Fairlead.FairleadV1alpha1().VIPs()
	made, err := client.Create(ctx, vip, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		made, err = client.Get(ctx, vip.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, errTaken // it went meanwhile: the next round gets it
		}
		key := types.NamespacedName{Namespace: request.Service.Namespace, Name: request.Service.Name}
		if err == nil && (made.DeletionTimestamp != nil ||
			!slices.ContainsFunc(made.Spec.Frontends, claimOf(key, types.UID(request.Service.UID)))) {
			c.observeUnseen(made)
			return nil, errTaken
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create VIP %s for Service %s/%s: %w", vip.Name, request.Service.Namespace, request.Service.Name, err)
	}
	c.vips.wrote(made.Name, made)
	c.observeUnseen(made)
	klog.FromContext(ctx).Info("Allocated", "address", g.addr, "pool", g.pool)
	return made, nil
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
	if _, cached, err := c.vipIndex.GetByKey(name); err == nil && cached || !c.book.knows(name) {
		return nil
	}
	vip, err := c.config.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		if believed, ok := c.vips.newest(name); ok {
			defer c.enqueueServicesOf(believed)
		}
		c.vips.forget(name)
		c.book.forgetVIP(name)
		return nil
	case err != nil:
		return fmt.Errorf("look whether VIP %s exists: %w", name, err)
	}
	c.observeUnseen(vip) // the watch is late
	return nil
}

// specFor is what a VIP should say: the pool's settings, the Service's frontends, and the frontends of other Services as they
// are. The settings of a pool that is gone stay.
func (c *Controller) specFor(request source.Request, vip *v1alpha1.VIP, addr netip.Addr) v1alpha1.VIPSpec {
	spec := *vip.Spec.DeepCopy()
	spec.Address = addr.String()
	if p := c.book.poolOf(addr, vip.Spec.Pool); p != nil {
		settings := p.Spec.DeepCopy()
		spec.Pool, spec.Interfaces, spec.NodeSelector = p.Name, settings.Interfaces, settings.NodeSelector
	}
	spec.Frontends = slices.DeleteFunc(spec.Frontends, func(f v1alpha1.Frontend) bool {
		return f.Service.Namespace == request.Service.Namespace && f.Service.Name == request.Service.Name
	})
	spec.Frontends = append(spec.Frontends, request.Frontends(corev1.IPFamily(pool.FamilyOf(addr)))...)
	source.SortFrontends(spec.Frontends)
	return spec
}

// syncVIP updates a VIP object whose spec is not what it should be.
func (c *Controller) syncVIP(ctx context.Context, request source.Request, vip *v1alpha1.VIP) (*v1alpha1.VIP, error) {
	addr, ok := vipAddr(vip)
	if !ok {
		return vip, nil
	}
	spec := c.specFor(request, vip, addr)
	spec.Address = vip.Spec.Address // cannot be changed
	if equality.Semantic.DeepEqual(spec, vip.Spec) {
		return vip, nil
	}
	changed := vip.DeepCopy()
	changed.Spec = spec
	return c.updateVIP(ctx, changed)
}

// updateVIP writes a VIP object if nobody wrote it since.
func (c *Controller) updateVIP(ctx context.Context, vip *v1alpha1.VIP) (*v1alpha1.VIP, error) {
	updated, err := c.config.Fairlead.FairleadV1alpha1().VIPs().Update(ctx, vip, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("update VIP %s: %w", vip.Name, err)
	}
	c.vips.wrote(updated.Name, updated)
	return updated, nil
}

// release removes the frontends of a claim from a VIP, and the VIP with the last of them. One that is gone already, or is not
// the same any more, is no error.
func (c *Controller) release(ctx context.Context, vip *v1alpha1.VIP, drop claim) error {
	rest := slices.DeleteFunc(slices.Clone(vip.Spec.Frontends), drop)
	switch {
	case len(rest) == len(vip.Spec.Frontends):
		return nil
	case len(rest) > 0:
		changed := vip.DeepCopy()
		changed.Spec.Frontends = rest
		_, err := c.updateVIP(ctx, changed)
		return err
	}
	err := c.config.Fairlead.FairleadV1alpha1().VIPs().Delete(ctx, vip.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &vip.UID, ResourceVersion: &vip.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete VIP %s: %w", vip.Name, err)
	}
	c.vips.removed(vip.Name, vip)
	return nil
}
