package kube

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/generated/informers/externalversions"
	listers "github.com/fairlead/fairlead/pkg/generated/listers/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// StripManagedFields drops what only server-side apply needs, which is about half of a small object.
func StripManagedFields(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

// Watcher keeps the objects that a speaker needs: VIPs, EndpointSlices and Nodes. What it hands out must not be changed.
type Watcher struct {
	core     informers.SharedInformerFactory
	fairlead externalversions.SharedInformerFactory
	vips     listers.VIPLister
	nodes    corelisters.NodeLister
	slices   cache.Indexer
	synced   []cache.InformerSynced
}

const indexService = "service"

// NewWatcher makes a Watcher that calls notify, which must not block, whenever something changed that matters to a speaker.
func NewWatcher(clients *Clients, notify func()) (*Watcher, error) {
	w := &Watcher{
		core:     informers.NewSharedInformerFactoryWithOptions(clients.Core, 0, informers.WithTransform(trim)),
		fairlead: externalversions.NewSharedInformerFactoryWithOptions(clients.Fairlead, 0, externalversions.WithTransform(trim)),
	}
	vips := w.fairlead.Fairlead().V1alpha1().VIPs()
	nodes := w.core.Core().V1().Nodes()
	endpointSlices := w.core.Discovery().V1().EndpointSlices()
	w.vips, w.nodes, w.slices = vips.Lister(), nodes.Lister(), endpointSlices.Informer().GetIndexer()
	err := endpointSlices.Informer().AddIndexers(cache.Indexers{indexService: func(object any) ([]string, error) {
		slice, ok := object.(*discoveryv1.EndpointSlice)
		if !ok {
			return nil, fmt.Errorf("an EndpointSlice was expected, not %T", object)
		}
		return []string{serviceOf(slice).String()}, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index EndpointSlices by Service: %w", err)
	}
	for _, informer := range []cache.SharedIndexInformer{vips.Informer(), nodes.Informer(), endpointSlices.Informer()} {
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { notify() },
			UpdateFunc: func(old, now any) {
				if matters(old, now) {
					notify()
				}
			},
			DeleteFunc: func(any) { notify() },
		})
		if err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
		w.synced = append(w.synced, registration.HasSynced)
	}
	return w, nil
}

// Start begins to watch and waits until everything that exists is known, or the context ends.
func (w *Watcher) Start(ctx context.Context) error {
	w.core.StartWithContext(ctx)
	w.fairlead.StartWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), w.synced...) {
		return fmt.Errorf("list VIPs, Nodes and EndpointSlices: %w", context.Cause(ctx))
	}
	return nil
}

// Wait returns when the watches have ended, after the context of Start has.
func (w *Watcher) Wait() {
	w.core.Shutdown()
	w.fairlead.Shutdown()
}

// VIPs lists the VIPs that are not being deleted, in the order of their names. Claims are not among them: what they claim is a
// VIP of its own.
func (w *Watcher) VIPs() ([]*v1alpha1.VIP, error) {
	all, err := w.vips.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(vip *v1alpha1.VIP) bool {
		_, err := source.ParseVIPName(vip.Name)
		return vip.DeletionTimestamp != nil || err != nil
	})
	slices.SortFunc(all, func(a, b *v1alpha1.VIP) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// VIP is one VIP, nil if there is none of that name.
func (w *Watcher) VIP(name string) (*v1alpha1.VIP, error) {
	vip, err := w.vips.Get(name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return vip, err
}

// Nodes lists the Nodes.
func (w *Watcher) Nodes() ([]*corev1.Node, error) { return w.nodes.List(labels.Everything()) }

// EndpointSlices lists the EndpointSlices of a Service.
func (w *Watcher) EndpointSlices(service types.NamespacedName) []*discoveryv1.EndpointSlice {
	objects, err := w.slices.ByIndex(indexService, service.String())
	if err != nil {
		return nil // the index exists since NewWatcher
	}
	out := make([]*discoveryv1.EndpointSlice, 0, len(objects))
	for _, object := range objects {
		if slice, ok := object.(*discoveryv1.EndpointSlice); ok {
			out = append(out, slice)
		}
	}
	return out
}

func serviceOf(slice *discoveryv1.EndpointSlice) types.NamespacedName {
	return types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
}

// trim keeps of an object what a speaker reads: a Node's images and an endpoint's target would fill its memory.
func trim(object any) (any, error) {
	switch object := object.(type) {
	case *corev1.Node:
		object.Annotations = nil
		object.Spec = corev1.NodeSpec{Unschedulable: object.Spec.Unschedulable, PodCIDRs: object.Spec.PodCIDRs}
		object.Status = corev1.NodeStatus{Conditions: object.Status.Conditions, Addresses: object.Status.Addresses}
	case *discoveryv1.EndpointSlice:
		object.Annotations = nil
		for i := range object.Endpoints {
			object.Endpoints[i].TargetRef, object.Endpoints[i].Hints = nil, nil
		}
	}
	return StripManagedFields(object)
}

// matters tells an update that can change what a speaker does from one that cannot: a Node's status is written all the time.
func matters(old, now any) bool {
	switch now := now.(type) {
	case *corev1.Node:
		before, ok := old.(*corev1.Node)
		return !ok || NodeReady(before) != NodeReady(now) || !labels.Equals(before.Labels, now.Labels) ||
			!slices.Equal(before.Status.Addresses, now.Status.Addresses) || !slices.Equal(before.Spec.PodCIDRs, now.Spec.PodCIDRs)
	case *v1alpha1.VIP:
		before, ok := old.(*v1alpha1.VIP)
		return !ok || before.Generation != now.Generation || (before.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil)
	}
	return true
}

// NodeReady reports whether the node's kubelet says that it is ready.
func NodeReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// PodNetworks are the networks that a node's pods have their addresses from, where Kubernetes hands them out.
func PodNetworks(node *corev1.Node) (out []netip.Prefix) {
	for _, cidr := range node.Spec.PodCIDRs {
		if prefix, err := netip.ParsePrefix(cidr); err == nil {
			out = append(out, prefix.Masked())
		}
	}
	return out
}

// NodeAddresses are the addresses of a node that others reach it by: the internal ones before the external ones.
func NodeAddresses(node *corev1.Node) []netip.Addr {
	var out []netip.Addr
	for _, kind := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP} {
		for _, address := range node.Status.Addresses {
			if addr, err := netip.ParseAddr(address.Address); err == nil && address.Type == kind {
				out = append(out, addr)
			}
		}
	}
	return out
}
