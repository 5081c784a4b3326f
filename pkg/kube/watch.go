package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/generated/informers/externalversions"
	"github.com/fairlead/fairlead/pkg/plan"
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
	vips     sorted[*v1alpha1.VIP]
	nodes    sorted[*corev1.Node]
	slices   grouped[*discoveryv1.EndpointSlice]
	synced   []cache.InformerSynced
}

// NewWatcher makes a Watcher that calls notify, which must not block, whenever something changed that matters to a speaker.
func NewWatcher(clients *Clients, notify func()) (*Watcher, error) {
	w := &Watcher{
		core:     informers.NewSharedInformerFactoryWithOptions(clients.Core, 0, informers.WithTransform(trim)),
		fairlead: externalversions.NewSharedInformerFactoryWithOptions(clients.Fairlead, 0, externalversions.WithTransform(trim)),
	}
	err := errors.Join(
		keep(w, w.fairlead.Fairlead().V1alpha1().VIPs().Informer(), notify, w.keepVIP),
		keep(w, w.core.Core().V1().Nodes().Informer(), notify, w.keepNode),
		keep(w, w.core.Discovery().V1().EndpointSlices().Informer(), notify, w.keepSlice),
	)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	return w, nil
}

// keep has a function take every change of an informer's objects, from what was to what is, nil for nothing, before notify is
// called.
func keep[T metav1.Object](w *Watcher, informer cache.SharedIndexInformer, notify func(), take func(old, now T)) error {
	var none T
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			if now, ok := object.(T); ok {
				take(none, now)
				notify()
			}
		},
		UpdateFunc: func(old, now any) {
			before, _ := old.(T)
			if after, ok := now.(T); ok {
				take(before, after)
			}
			if matters(old, now) {
				notify()
			}
		},
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if old, ok := object.(T); ok {
				take(old, none)
				notify()
			}
		},
	})
	if err != nil {
		return err
	}
	w.synced = append(w.synced, registration.HasSynced)
	return nil
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
func (w *Watcher) VIPs() []*v1alpha1.VIP { return w.vips.list() }

// VIP is one of VIPs, nil if there is none of that name.
func (w *Watcher) VIP(name string) *v1alpha1.VIP { return w.vips.get(name) }

// Nodes lists the Nodes, in the order of their names.
func (w *Watcher) Nodes() []*corev1.Node { return w.nodes.list() }

// EndpointSlices lists the EndpointSlices of a Service, in the order of their names.
func (w *Watcher) EndpointSlices(service types.NamespacedName) []*discoveryv1.EndpointSlice {
	return w.slices.list(service)
}

func (w *Watcher) keepVIP(old, now *v1alpha1.VIP) {
	name := cmp.Or(now, old).Name
	if _, err := source.ParseVIPName(name); err != nil {
		return
	}
	if now != nil && now.DeletionTimestamp != nil {
		now = nil
	}
	w.vips.put(name, now)
}

func (w *Watcher) keepNode(old, now *corev1.Node) { w.nodes.put(cmp.Or(now, old).Name, now) }

func (w *Watcher) keepSlice(old, now *discoveryv1.EndpointSlice) {
	if old != nil && (now == nil || serviceOf(old) != serviceOf(now)) {
		w.slices.put(serviceOf(old), old.Name, nil)
	}
	if now != nil {
		w.slices.put(serviceOf(now), now.Name, now)
	}
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
		return !ok || NodeReady(before) != NodeReady(now) || before.Spec.Unschedulable != now.Spec.Unschedulable || !labels.Equals(before.Labels, now.Labels) ||
			!slices.Equal(before.Status.Addresses, now.Status.Addresses) || !slices.Equal(before.Spec.PodCIDRs, now.Spec.PodCIDRs)
	case *v1alpha1.VIP:
		before, ok := old.(*v1alpha1.VIP)
		return !ok || before.Generation != now.Generation ||
			before.Annotations[v1alpha1.AnnotationMoveTo] != now.Annotations[v1alpha1.AnnotationMoveTo] || (before.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil)
	}
	return true
}

// Machine is what a Node says of a node; its speaker tells the interfaces, and what it is unfit for.
func Machine(node *corev1.Node) plan.Machine {
	return plan.Machine{
		Name: node.Name, Labels: node.Labels, Ready: NodeReady(node), Cordoned: node.Spec.Unschedulable,
		Addresses: NodeAddresses(node), PodNetworks: PodNetworks(node),
	}
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
