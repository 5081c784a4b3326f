package controller

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// itemTimeout ends work on one object whose requests hang. It outlives the end of the process's context, so that an object
// under way is finished and not left between two writes.
const itemTimeout = 10 * time.Second

// work makes everything right until ctx ends, and returns when all workers have stopped.
func (c *Controller) work(ctx context.Context) {
	c.metrics.leader.Set(1)
	defer c.metrics.leader.Set(0)
	c.rebuild(ctx) // before any allocation
	c.enqueueAll(ctx)
	var workers sync.WaitGroup
	for range c.config.Workers {
		workers.Go(func() { runWorker(ctx, c, queueServices, c.serviceQueue, c.reconcileService) })
	}
	workers.Go(func() { runWorker(ctx, c, queuePools, c.poolQueue, c.reconcilePool) })
	workers.Go(func() { runWorker(ctx, c, queueVIPs, c.vipQueue, c.reconcileVIP) })
	workers.Go(func() { runWorker(ctx, c, queueConfigMaps, c.mapQueue, c.reconcileMap) })
	if c.config.GossipSecret.Name != "" {
		workers.Go(func() { c.keepGossipKey(ctx, c.config.GossipSecret) })
	}
	<-ctx.Done()
	c.shutDown()
	workers.Wait()
}

// enqueueAll queues every Service and claim, the oldest first, and lets those that lack an address wait for it in that order
// before the first worker starts.
func (c *Controller) enqueueAll(ctx context.Context) {
	services, err := c.serviceLister.List(labels.Everything())
	if err != nil { // a list from memory: nothing can fail
		klog.FromContext(ctx).Error(err, "Could not list Services from the cache")
	}
	var wishes []*wish
	for _, svc := range services {
		if w := c.earlyWish(svc); c.config.Rules.Ours(svc) && w != nil {
			wishes = append(wishes, w)
		}
	}
	for _, object := range c.vipIndex.List() {
		vip, ok := object.(*v1alpha1.VIP)
		if !ok {
			continue
		}
		c.enqueueTenantsOf(vip)
		if _, isAddress := vipAddr(vip); !isAddress && vip.DeletionTimestamp == nil {
			own := c.vipsOwnedBy(v1alpha1.Owner{Kind: v1alpha1.OwnerVIP, Name: vip.Name})
			if w, err := c.claimWish(vip, own); err == nil && len(w.needs) > 0 {
				wishes = append(wishes, w)
			}
		}
	}
	slices.SortFunc(wishes, compareAge)
	for _, w := range wishes {
		c.book.reserve(w)
	}
	slices.SortFunc(services, func(a, b *corev1.Service) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, svc := range services {
		c.serviceQueue.Add(keyOf(svc))
	}
}

// runWorker takes items from a queue until it is shut down.
func runWorker[T comparable](ctx context.Context, c *Controller, name string, queue workqueue.TypedRateLimitingInterface[T],
	reconcile func(context.Context, T) error) {
	duration := c.metrics.duration.WithLabelValues(name)
	for {
		item, shutdown := queue.Get()
		if shutdown {
			return
		}
		if ctx.Err() != nil { // stopping: the next leader has the rest in its own queue
			queue.Done(item)
			continue
		}
		logger := klog.LoggerWithValues(klog.FromContext(ctx), "queue", name, "item", item)
		itemCtx, cancel := context.WithTimeout(klog.NewContext(context.WithoutCancel(ctx), logger), itemTimeout)
		start := c.config.Now()
		err := c.makeSure(itemCtx)
		if err == nil {
			err = reconcile(itemCtx, item)
		}
		duration.Observe(c.config.Now().Sub(start).Seconds())
		cancel()
		switch {
		case err == nil:
			queue.Forget(item)
		case onlyConflicts(err):
			logger.V(2).Info("Somebody else wrote first; again", "reason", err)
			queue.AddRateLimited(item)
		default:
			logger.Error(err, "Could not make it right; again later")
			queue.AddRateLimited(item)
		}
		queue.Done(item)
	}
}

// errBehind says that the cache is older than what was just read: look again when it caught up.
var errBehind = errors.New("the cache is behind the API server")

// onlyConflicts reports whether an error is nothing but optimistic writes that lost.
func onlyConflicts(err error) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(joined.Unwrap(), func(e error) bool { return !onlyConflicts(e) })
	}
	return errors.Is(err, errBehind) || apierrors.IsConflict(err)
}
