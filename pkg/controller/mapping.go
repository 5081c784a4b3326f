package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
	"github.com/fairlead/fairlead/pkg/source"
)

// Reasons of events about ConfigMaps.
const (
	// ReasonMapped (Normal) names an address that came up, and its Services.
	ReasonMapped = "Mapped"
	// ReasonUnmapped (Normal) names addresses that went.
	ReasonUnmapped = "Unmapped"
	// ReasonBadEntry (Warning) names a key, what is wrong with its value, and the remedy. No other entry is affected.
	ReasonBadEntry = "BadEntry"
)

func configMapOwner(key asker) v1alpha1.Owner {
	return v1alpha1.Owner{Kind: v1alpha1.OwnerConfigMap, Namespace: key.Namespace, Name: key.Name}
}

// reconcileMap makes the VIPs that a ConfigMap maps what it says.
func (c *Controller) reconcileMap(ctx context.Context, key asker) error {
	cm, known := c.maps.get(key)
	if !known {
		return nil // its informer has not listed yet, and queues everything once it has
	}
	owned := c.vipsOwnedBy(configMapOwner(key))
	if cm == nil && len(owned) > 0 {
		live, err := c.maps.confirm(ctx, c.config.Core, key)
		if err != nil {
			return fmt.Errorf("read ConfigMap %s before releasing what it maps: %w", key, err)
		}
		cm = live
	}
	if cm == nil {
		c.maps.forget(key)
		return c.unmap(ctx, key, nil, owned)
	}
	mappings, err := source.FromConfigMap(cm.Data)
	problems := splitErrors(err)
	c.maps.link(key, mappings)
	var errs []error
	for i := range mappings {
		found, err := c.mapAddress(ctx, cm, &mappings[i])
		problems, errs = append(problems, found...), append(errs, err)
		owned = slices.DeleteFunc(owned, func(vip *v1alpha1.VIP) bool { return vip.Name == source.VIPName(mappings[i].Addr) })
	}
	errs = append(errs, c.unmap(ctx, key, cm, owned))
	for _, text := range c.maps.news(key, problems) {
		c.config.Recorder.Event(cm, corev1.EventTypeWarning, ReasonBadEntry, clip(text))
	}
	return errors.Join(errs...)
}

func splitErrors(err error) (texts []string) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			texts = append(texts, e.Error())
		}
	}
	return texts
}

// mapAddress makes one VIP what a ConfigMap says. Problems are told on the ConfigMap and on the VIP.
func (c *Controller) mapAddress(ctx context.Context, cm *corev1.ConfigMap, m *source.Mapping) (problems []string, err error) {
	key := asker{Namespace: cm.Namespace, Name: cm.Name}
	where := fmt.Sprintf("key %q: ", m.Keys[0])
	if why := unusable(m.Addr); why != "" {
		return []string{where + why}, nil
	}
	frontends, problems := c.mappedFrontends(m, key)
	t := mappingTenant(key, m, frontends)
	vip, problem, err := c.placeMapping(ctx, cm, t, m)
	if apierrors.IsInvalid(err) {
		return append(problems, where+err.Error()), nil
	}
	if err != nil || vip == nil {
		return append(problems, where+problem), err
	}
	vip, conflicts, err := c.syncVIP(ctx, t, vip)
	if apierrors.IsInvalid(err) { // by an annotation of a Service
		return append(problems, where+err.Error()), nil
	}
	if err != nil {
		return problems, err
	}
	for _, text := range conflicts {
		problems = append(problems, where+text)
	}
	condition := metav1.Condition{Type: v1alpha1.VIPMapped, Status: metav1.ConditionTrue, Reason: v1alpha1.VIPReasonMapped,
		Message: "all that ConfigMaps map to it is on it"}
	if text := c.maps.problemsOf(vip.Name, key, problems); text != "" {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, v1alpha1.VIPReasonNotMapped, text
	}
	_, err = c.writeCondition(ctx, vip, condition)
	return problems, err
}

// unusable says why nobody could connect to an address; "" if one can.
func unusable(addr netip.Addr) string {
	if _, err := pool.ParseRange(addr.String()); err != nil {
		return err.Error()
	}
	return ""
}

// placeMapping finds or makes the VIP object of a mapped address. It is nil where somebody else has the address, with what is
// to be said of it.
func (c *Controller) placeMapping(ctx context.Context, cm *corev1.ConfigMap, t tenant, m *source.Mapping) (*v1alpha1.VIP, string, error) {
	vip, exists := c.vips.newest(source.VIPName(m.Addr))
	has := exists && vip.DeletionTimestamp == nil && t.has(vip)
	switch joins := exists && t.joins(vip) == ""; {
	case has && joins:
		return vip, "", nil
	case has: // it was mapped to the Service that has the address itself, and is not any more
		err := c.unmap(ctx, asker{Namespace: cm.Namespace, Name: cm.Name}, nil, []*v1alpha1.VIP{vip})
		return nil, c.book.whyTaken(m.Addr, t), err
	case exists && !joins:
		return nil, c.book.whyTaken(m.Addr, t), nil // once it changes, this is looked at again
	}
	g := grant{family: pool.FamilyOf(m.Addr), addr: m.Addr, joins: true}
	if p := c.book.poolOf(m.Addr, ""); p != nil {
		g.pool = p.Name
	}
	vip, err := c.occupy(ctx, t, g)
	if errors.Is(err, errTaken) {
		return nil, c.book.whyTaken(m.Addr, t), nil
	}
	if err != nil {
		return nil, "", err
	}
	names := make([]string, 0, len(m.Targets))
	for _, target := range m.Targets {
		names = append(names, target.Service.String())
	}
	klog.FromContext(ctx).Info("Mapped", "address", m.Addr, "services", names)
	what := "no Service: the address is bound, and answers no port"
	if len(names) > 0 {
		what = "Service " + strings.Join(names, ", ")
	}
	c.config.Recorder.Eventf(cm, corev1.EventTypeNormal, ReasonMapped, "%s is up for %s", m.Addr, what)
	return vip, "", nil
}

// mappingTenant puts what a ConfigMap maps on a VIP.
func mappingTenant(key asker, m *source.Mapping, frontends []v1alpha1.Frontend) tenant {
	owner := configMapOwner(key)
	mapped := func(s v1alpha1.ServiceReference) bool {
		return slices.ContainsFunc(m.Targets, func(t source.Target) bool { return t.Service == keyOfReference(s) })
	}
	return tenant{
		name:      "ConfigMap " + key.String(),
		mine:      func(f v1alpha1.Frontend) bool { return f.ConfigMap == key.String() },
		frontends: func(corev1.IPFamily) []v1alpha1.Frontend { return frontends },
		owner:     &owner,
		has:       func(vip *v1alpha1.VIP) bool { return slices.Contains(vip.Spec.Owners, owner) },
		adds:      m.Unsure,
		joins: func(vip *v1alpha1.VIP) string {
			for _, f := range vip.Spec.Frontends {
				if f.ConfigMap == "" && !mapped(f.Service) {
					return "it is that of Service " + keyOfReference(f.Service).String()
				}
			}
			return ""
		},
	}
}

// mappedFrontends are the frontends of a mapping's Services. A Service that is missing costs the address nothing.
func (c *Controller) mappedFrontends(m *source.Mapping, key asker) (frontends []v1alpha1.Frontend, problems []string) {
	family := source.FamilyOf(m.Addr)
	for _, target := range m.Targets {
		say := func(format string, args ...any) {
			problems = append(problems, fmt.Sprintf("key %q: Service %s ", target.Key, target.Service)+fmt.Sprintf(format, args...))
		}
		svc, err := c.serviceLister.Services(target.Service.Namespace).Get(target.Service.Name)
		if apierrors.IsNotFound(err) {
			say("does not exist: create it, or correct the line; %s stays up", m.Addr)
			continue
		}
		var made []v1alpha1.Frontend
		if err == nil {
			made, err = target.Frontends(svc, family, key.String())
		}
		switch {
		case err != nil:
			say("cannot be used: %v", err)
		case len(made) == 0:
			say("has no port: add the ports that are to answer on %s", m.Addr)
		case len(svc.Spec.IPFamilies) > 0 && !slices.Contains(svc.Spec.IPFamilies, family):
			say("has no %s endpoints, and %s is %s: add %s to its spec.ipFamilies", family, m.Addr, family, family)
		}
		if target.Method == source.MethodPROXY {
			say("is not served: the PROXY protocol is not available; remove :PROXY here, and from what the pods expect")
			continue
		}
		for _, f := range made {
			if other := slices.IndexFunc(frontends, func(o v1alpha1.Frontend) bool { return clash([]v1alpha1.Frontend{o}, f) }); other >= 0 {
				say("has port %s, and so has Service %s of the same address: use two addresses", source.PortString(f),
					keyOfReference(frontends[other].Service))
				continue
			}
			frontends = append(frontends, f)
		}
	}
	return frontends, problems
}

// unmap takes away what a ConfigMap (nil: it is gone) no longer maps.
func (c *Controller) unmap(ctx context.Context, key asker, cm *corev1.ConfigMap, vips []*v1alpha1.VIP) error {
	if len(vips) == 0 {
		return nil
	}
	owner := configMapOwner(key)
	var errs []error
	for _, vip := range vips {
		c.maps.problemsOf(vip.Name, key, nil)
		errs = append(errs, c.release(ctx, vip, func(f v1alpha1.Frontend) bool { return f.ConfigMap == key.String() },
			func(o v1alpha1.Owner) bool { return o == owner }))
	}
	err := errors.Join(errs...)
	if cm != nil && err == nil {
		c.config.Recorder.Event(cm, corev1.EventTypeNormal, ReasonUnmapped, clip("released "+listAddresses(vips)))
	}
	return err
}
