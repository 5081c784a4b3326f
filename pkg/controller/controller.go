package controller

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/generated/informers/externalversions"
	listers "github.com/fairlead/fairlead/pkg/generated/listers/api/v1alpha1"
)

// Waits between attempts at one object: at once for a conflict, and no longer than a user would watch for.
const (
	retryFirst = 5 * time.Millisecond
	retryMost  = 30 * time.Second
)

// Controller makes VIP objects and statuses what Services and IPPools ask for.
type Controller struct {
	config   Config
	metrics  *metrics
	book     *book
	maps     *configMaps
	unsure   *unsure
	watchdog *leaderelection.HealthzAdaptor

	coreInformers informers.SharedInformerFactory
	ourInformers  externalversions.SharedInformerFactory
	synced        []cache.InformerSynced
	ready         atomic.Bool

	serviceLister corelisters.ServiceLister
	poolLister    listers.IPPoolLister
	vipIndex      cache.Indexer
	services      *overlay[*corev1.Service]
	vips          *overlay[*v1alpha1.VIP]
	poolStatuses  *overlay[*v1alpha1.IPPool]

	serviceQueue workqueue.TypedRateLimitingInterface[types.NamespacedName]
	poolQueue    workqueue.TypedRateLimitingInterface[poolItem]
	vipQueue     workqueue.TypedRateLimitingInterface[string]
	mapQueue     workqueue.TypedRateLimitingInterface[types.NamespacedName]
}

// New makes a controller and its informers; nothing is sent before Run.
func New(config Config) (*Controller, error) {
	config.Defaults()
	if err := config.Validate(); err != nil {
		return nil, err
	}
	c := &Controller{config: config, unsure: newUnsure()}
	c.watchdog = leaderelection.NewLeaderHealthzAdaptor(renewDeadline)
	c.book = newBook(c.wake, c.poolChanges)
	var err error
	if c.metrics, err = newMetrics(config.Registry, c.book, func() float64 { return float64(c.maps.count()) }); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	c.serviceQueue = newQueue[types.NamespacedName](c.metrics, queueServices)
	c.poolQueue = newQueue[poolItem](c.metrics, queuePools)
	c.vipQueue = newQueue[string](c.metrics, queueVIPs)
	c.mapQueue = newQueue[types.NamespacedName](c.metrics, queueConfigMaps)
	if err := c.watch(); err != nil {
		return nil, fmt.Errorf("set up informers: %w", err)
	}
	return c, nil
}

// Names of the queues, as metrics show them.
const (
	queueServices   = "services"
	queuePools      = "pools"
	queueVIPs       = "vips"
	queueConfigMaps = "configmaps"
)

func newQueue[T comparable](m *metrics, name string) workqueue.TypedRateLimitingInterface[T] {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[T](retryFirst, retryMost)
	return workqueue.NewTypedRateLimitingQueueWithConfig(limiter,
		workqueue.TypedRateLimitingQueueConfig[T]{Name: name, MetricsProvider: m.queues})
}

// poolChanges has the status of a pool written soon.
func (c *Controller) poolChanges(name string) {
	c.poolQueue.AddAfter(poolItem{name: name}, statusDelay)
}

// wake queues one that may have something to do.
func (c *Controller) wake(who asker) {
	if isClaim(who) {
		c.vipQueue.Add(who.Name)
	} else {
		c.serviceQueue.Add(who)
	}
}

// enqueueMaps queues the ConfigMaps that own VIPs: one may have gone while nobody looked.
func (c *Controller) enqueueMaps() {
	for _, object := range c.vipIndex.List() {
		if vip, ok := object.(*v1alpha1.VIP); ok {
			c.enqueueTenantsOf(vip)
		}
	}
}

func (c *Controller) shutDown() {
	c.serviceQueue.ShutDown()
	c.poolQueue.ShutDown()
	c.vipQueue.ShutDown()
	c.mapQueue.ShutDown()
}

// Ready says whether the caches are filled, which is when this replica can take over.
func (c *Controller) Ready() error {
	if !c.ready.Load() {
		return errors.New("the caches of Services, Namespaces, IPPools and VIPs are not filled yet: is the API server reachable, are CRDs and RBAC applied?")
	}
	return nil
}

// Live says whether only a restart helps: this replica leads, but has not been able to renew its Lease.
func (c *Controller) Live() error { return c.watchdog.Check(nil) }

// Run works until ctx ends, and returns nil then, everything stopped. Any other end is an error after which the process should
// restart.
func (c *Controller) Run(ctx context.Context) error {
	informing, stop := context.WithCancel(ctx)
	mapsEnded := func() {}
	defer func() {
		stop()
		c.shutDown()
		mapsEnded()
		c.coreInformers.Shutdown()
		c.ourInformers.Shutdown()
	}()
	c.coreInformers.StartWithContext(informing)
	c.ourInformers.StartWithContext(informing)
	if !cache.WaitForCacheSync(ctx.Done(), c.synced...) {
		return nil // only the end of ctx ends the wait
	}
	mapsEnded = c.maps.start(informing, c.enqueueMaps)
	c.ready.Store(true)
	klog.FromContext(ctx).Info("Caches are filled")
	if c.config.Election == nil {
		c.work(ctx)
		return nil
	}
	return c.lead(ctx)
}
