package controller

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/generated/informers/externalversions"
)

// indexService finds VIP objects by the Services that their frontends name.
const indexService = "service"

func keyOf(svc *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
}

func keyOfReference(ref v1alpha1.ServiceReference) types.NamespacedName {
	return types.NamespacedName{Namespace: ref.Namespace, Name: ref.Name}
}

// trim drops from cached objects what nobody here reads and no write sends back.
func trim(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	if svc, ok := object.(*corev1.Service); ok { // only ever patched
		delete(svc.Annotations, corev1.LastAppliedConfigAnnotation)
	}
	return object, nil
}

// watch makes the informers, their indices and handlers.
func (c *Controller) watch() error {
	c.coreInformers = informers.NewSharedInformerFactoryWithOptions(c.config.Core, c.config.Resync, informers.WithTransform(trim))
	c.ourInformers = externalversions.NewSharedInformerFactoryWithOptions(c.config.Fairlead, 0, externalversions.WithTransform(trim))
	services := c.coreInformers.Core().V1().Services()
	pools := c.ourInformers.Fairlead().V1alpha1().IPPools()
	vips := c.ourInformers.Fairlead().V1alpha1().VIPs()
	c.serviceLister, c.poolLister, c.vipIndex = services.Lister(), pools.Lister(), vips.Informer().GetIndexer()
	c.services = newOverlay(fromIndex[*corev1.Service](services.Informer().GetIndexer()), c.config.Now)
	c.vips = newOverlay(fromIndex[*v1alpha1.VIP](c.vipIndex), c.config.Now)
	c.poolStatuses = newOverlay(fromIndex[*v1alpha1.IPPool](pools.Informer().GetIndexer()), c.config.Now)
	if err := vips.Informer().AddIndexers(cache.Indexers{indexService: servicesOfVIP}); err != nil {
		return err
	}
	return c.handle(services.Informer(), pools.Informer(), vips.Informer())
}

func (c *Controller) handle(services, pools, vips cache.SharedIndexInformer) error {
	for _, add := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{services, handler[*corev1.Service]{c.serviceChanged, c.serviceGone}},
		{pools, handler[*v1alpha1.IPPool]{c.poolChanged, c.poolGone}},
		{vips, handler[*v1alpha1.VIP]{c.vipChanged, c.vipGone}},
	} {
		registration, err := add.informer.AddEventHandler(add.handler)
		if err != nil {
			return err
		}
		c.synced = append(c.synced, registration.HasSynced)
	}
	return nil
}

// handler is a cache.ResourceEventHandler for one type. changed has the zero value for old where the object is new.
type handler[T any] struct {
	changed func(old, object T)
	gone    func(object T)
}

// OnAdd implements cache.ResourceEventHandler.
func (h handler[T]) OnAdd(object any, _ bool) {
	if o, ok := object.(T); ok {
		var none T
		h.changed(none, o)
	}
}

// OnUpdate implements cache.ResourceEventHandler.
func (h handler[T]) OnUpdate(old, object any) {
	o, ok := old.(T)
	if n, also := object.(T); ok && also {
		h.changed(o, n)
	}
}

// OnDelete implements cache.ResourceEventHandler.
func (h handler[T]) OnDelete(object any) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	if o, ok := object.(T); ok {
		h.gone(o)
	}
}

func fromIndex[T any](index cache.Indexer) func(string) (T, bool) {
	return func(key string) (T, bool) {
		object, exists, err := index.GetByKey(key)
		typed, ok := object.(T)
		return typed, exists && err == nil && ok
	}
}

func servicesOfVIP(object any) ([]string, error) {
	vip, ok := object.(*v1alpha1.VIP)
	if !ok {
		return nil, nil
	}
	var keys []string
	for _, f := range vip.Spec.Frontends {
		if key := keyOfReference(f.Service).String(); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (c *Controller) serviceChanged(old, svc *corev1.Service) {
	key := keyOf(svc)
	c.services.seen(key.String(), svc)
	var shown []netip.Addr
	if c.config.Rules.Ours(svc) {
		shown = addressesOf(svc)
	}
	c.book.publish(key, shown)
	if c.config.Rules.Ours(svc) || old != nil && c.config.Rules.Ours(old) || c.hasVIPs(key) {
		c.serviceQueue.Add(key)
	}
}

func (c *Controller) serviceGone(svc *corev1.Service) {
	key := keyOf(svc)
	c.services.gone(key.String(), svc.UID)
	c.book.publish(key, nil)
	c.told.forget(svc.UID)
	c.serviceQueue.Add(key)
}

func (c *Controller) vipChanged(old, vip *v1alpha1.VIP) {
	c.vips.seen(vip.Name, vip)
	c.book.observe(vip)
	if old != nil && equality.Semantic.DeepEqual(old.Spec, vip.Spec) && old.DeletionTimestamp == vip.DeletionTimestamp {
		return // a speaker's status
	}
	c.enqueueServicesOf(old)
	c.enqueueServicesOf(vip)
	if old == nil {
		c.countChanged(vip)
	}
}

func (c *Controller) vipGone(vip *v1alpha1.VIP) {
	c.vips.gone(vip.Name, vip.UID)
	c.book.forgetVIP(vip.Name)
	c.enqueueServicesOf(vip)
	c.countChanged(vip)
}

func (c *Controller) enqueueServicesOf(vip *v1alpha1.VIP) {
	if vip == nil {
		return
	}
	for _, f := range vip.Spec.Frontends {
		c.serviceQueue.Add(keyOfReference(f.Service))
	}
}

func (c *Controller) hasVIPs(service types.NamespacedName) bool {
	keys, err := c.vipIndex.IndexKeys(indexService, service.String())
	return err == nil && len(keys) > 0
}

// countChanged has the status of the pools of a VIP written soon.
func (c *Controller) countChanged(vip *v1alpha1.VIP) {
	if addr, ok := vipAddr(vip); ok {
		for _, name := range c.book.poolsWith(addr) {
			c.poolQueue.AddAfter(poolItem{name: name}, statusDelay)
		}
	}
}

func (c *Controller) poolChanged(old, object *v1alpha1.IPPool) {
	c.poolStatuses.seen(object.Name, object)
	if old == nil || !equality.Semantic.DeepEqual(old.Spec, object.Spec) || old.UID != object.UID ||
		(old.DeletionTimestamp == nil) != (object.DeletionTimestamp == nil) {
		c.poolQueue.Add(poolItem{rebuild: true}) // and then every status
		return
	}
	// Our own status, mostly; if it is another's, who may think that ours is wrong, the delay keeps the peace.
	c.poolQueue.AddAfter(poolItem{name: object.Name}, statusDelay)
}

func (c *Controller) poolGone(object *v1alpha1.IPPool) {
	c.poolStatuses.gone(object.Name, object.UID)
	c.poolQueue.Add(poolItem{rebuild: true})
}
