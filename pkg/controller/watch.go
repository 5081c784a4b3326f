package controller

import (
	"maps"
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

// Indices of VIP objects: by the Services whose own frontends they have, and by their owners.
const (
	indexService = "service"
	indexOwner   = "owner"
)

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
	namespaces := c.coreInformers.Core().V1().Namespaces()
	c.serviceLister, c.poolLister, c.vipIndex = services.Lister(), pools.Lister(), vips.Informer().GetIndexer()
	c.services = newOverlay(fromIndex[*corev1.Service](services.Informer().GetIndexer()), c.config.Now)
	c.vips = newOverlay(fromIndex[*v1alpha1.VIP](c.vipIndex), c.config.Now)
	c.poolStatuses = newOverlay(fromIndex[*v1alpha1.IPPool](pools.Informer().GetIndexer()), c.config.Now)
	if err := vips.Informer().AddIndexers(cache.Indexers{indexService: servicesOfVIP, indexOwner: ownersOfVIP}); err != nil {
		return err
	}
	return c.handle(services.Informer(), namespaces.Informer(), pools.Informer(), vips.Informer())
}

func (c *Controller) handle(services, namespaces, pools, vips cache.SharedIndexInformer) error {
	for _, add := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{services, handler[*corev1.Service]{c.serviceChanged, c.serviceGone}},
		{namespaces, handler[*corev1.Namespace]{c.namespaceChanged, c.namespaceGone}},
		{pools, handler[*v1alpha1.IPPool]{c.poolChanged, c.poolGone}},
		{vips, handler[*v1alpha1.VIP]{c.vipChanged, c.vipGone}},
	} {
		registration, err := add.informer.AddEventHandler(add.handler)
		if err != nil {
			return err
		}
		c.synced = append(c.synced, registration.HasSynced)
	}
	var err error
	c.maps, err = newConfigMaps(c.config.Core, c.config.ConfigMaps, handler[*corev1.ConfigMap]{c.configMapChanged, c.configMapGone})
	return err
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
		if key := keyOfReference(f.Service).String(); f.ConfigMap == "" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func ownersOfVIP(object any) (keys []string, err error) {
	if vip, ok := object.(*v1alpha1.VIP); ok {
		for _, o := range vip.Spec.Owners {
			keys = append(keys, ownerKey(o))
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
	if old == nil || !equality.Semantic.DeepEqual(old.Spec, svc.Spec) {
		c.enqueueMapsOf(key)
	}
}

func (c *Controller) serviceGone(svc *corev1.Service) {
	key := keyOf(svc)
	c.services.gone(key.String(), svc.UID)
	c.book.publish(key, nil)
	c.serviceQueue.Add(key)
	c.enqueueMapsOf(key)
}

func (c *Controller) enqueueMapsOf(service asker) {
	for _, key := range c.maps.naming(service) {
		c.mapQueue.Add(key)
	}
}

func (c *Controller) configMapChanged(old, cm *corev1.ConfigMap) {
	if old == nil || !maps.Equal(old.Data, cm.Data) {
		c.mapQueue.Add(asker{Namespace: cm.Namespace, Name: cm.Name})
	}
}

func (c *Controller) configMapGone(cm *corev1.ConfigMap) {
	c.mapQueue.Add(asker{Namespace: cm.Namespace, Name: cm.Name})
}

func (c *Controller) namespaceChanged(old, ns *corev1.Namespace) {
	if old == nil || !maps.Equal(old.Labels, ns.Labels) {
		labels := ns.Labels
		if labels == nil {
			labels = map[string]string{}
		}
		c.book.setNamespace(ns.Name, labels)
		if old != nil { // pools may select it now, or no longer
			c.poolQueue.Add(poolItem{rebuild: true})
		}
	}
}

func (c *Controller) namespaceGone(ns *corev1.Namespace) { c.book.setNamespace(ns.Name, nil) }

func (c *Controller) vipChanged(old, vip *v1alpha1.VIP) {
	c.vips.seen(vip.Name, vip)
	if newest, ok := c.vips.newest(vip.Name); ok {
		c.book.observe(newest)
	}
	if old != nil && equality.Semantic.DeepEqual(old.Spec, vip.Spec) && old.DeletionTimestamp == vip.DeletionTimestamp {
		if !sameConditions(old, vip) {
			c.vipQueue.Add(vip.Name)
		}
		return // a speaker's status
	}
	c.enqueueTenantsOf(old)
	c.enqueueTenantsOf(vip)
	if old == nil {
		c.countChanged(vip)
	}
}

func (c *Controller) vipGone(vip *v1alpha1.VIP) {
	c.vips.gone(vip.Name, vip.UID)
	c.book.forgetVIP(vip.Name, vip.UID)
	c.enqueueTenantsOf(vip)
	c.countChanged(vip)
}

// sameConditions reports whether the conditions that the controller writes are the same: a speaker may have overwritten them.
func sameConditions(old, vip *v1alpha1.VIP) bool {
	for _, kind := range []string{v1alpha1.VIPCovered, v1alpha1.VIPMapped, v1alpha1.VIPBound} {
		a, b := meta.FindStatusCondition(old.Status.Conditions, kind), meta.FindStatusCondition(vip.Status.Conditions, kind)
		if !equality.Semantic.DeepEqual(a, b) {
			return false
		}
	}
	return true
}

// enqueueTenantsOf queues all that have to do with a VIP object: the Services on it, itself where no Service looks after all of
// it, what owns it, and the ConfigMaps that map its address.
func (c *Controller) enqueueTenantsOf(vip *v1alpha1.VIP) {
	if vip == nil {
		return
	}
	for _, f := range vip.Spec.Frontends {
		if f.ConfigMap == "" {
			c.serviceQueue.Add(keyOfReference(f.Service))
		}
	}
	for _, o := range vip.Spec.Owners {
		if o.Kind == v1alpha1.OwnerVIP {
			c.vipQueue.Add(o.Name)
		} else {
			c.mapQueue.Add(asker{Namespace: o.Namespace, Name: o.Name})
		}
	}
	addr, ok := vipAddr(vip)
	if !ok || !servesServices(vip) || len(vip.Spec.Owners) > 0 {
		c.vipQueue.Add(vip.Name)
	} else if _, wrong := c.coverCondition(vip, addr); wrong {
		c.vipQueue.Add(vip.Name)
	}
	for _, key := range c.maps.mapping(addr) {
		c.mapQueue.Add(key)
	}
	for _, who := range c.book.waitingFor(addr) {
		c.wake(who) // why it waits may be another reason now
	}
}

func (c *Controller) hasVIPs(service types.NamespacedName) bool {
	keys, err := c.vipIndex.IndexKeys(indexService, service.String())
	return err == nil && len(keys) > 0
}

// countChanged has the status of the pools of a VIP written soon.
func (c *Controller) countChanged(vip *v1alpha1.VIP) {
	addr, ok := vipAddr(vip)
	if !ok {
		return
	}
	names := c.book.poolsWith(addr)
	if !slices.Contains(names, vip.Spec.Pool) {
		names = append(names, vip.Spec.Pool) // it may be waiting for the last of its addresses
	}
	for _, name := range names {
		c.poolChanges(name)
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
