package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// reconcileService gives a Service what it asks for, or takes back what it had.
func (c *Controller) reconcileService(ctx context.Context, key types.NamespacedName) error {
	svc, exists := c.services.newest(key.String())
	vips := c.vipsOf(key)
	if !exists {
		svc = nil
	}
	if !c.explains(svc, key, vips) {
		// The cache may be older than the VIPs, for example just after another leader made them: taking an address away
		// needs a better witness.
		live, err := c.config.Core.CoreV1().Services(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			svc = nil
		case err != nil:
			return fmt.Errorf("read Service %s before releasing its addresses: %w", key, err)
		default:
			svc = live
		}
	}
	if svc == nil || !c.config.Rules.Ours(svc) {
		return c.retire(ctx, key, svc, vips)
	}
	return c.serve(ctx, svc, vips)
}

// explains reports whether a Service as cached wants every one of the VIPs.
func (c *Controller) explains(svc *corev1.Service, key types.NamespacedName, vips []*v1alpha1.VIP) bool {
	if len(vips) == 0 {
		return true
	}
	if svc == nil || !c.config.Rules.Ours(svc) {
		return false
	}
	earlier := frontendsOfEarlier(key, svc.UID)
	return !slices.ContainsFunc(vips, func(vip *v1alpha1.VIP) bool { return slices.ContainsFunc(vip.Spec.Frontends, earlier) })
}

// matcher says which frontends of a VIP are meant. Those that a ConfigMap put there are never a Service's own. A frontend without
// a UID was made by hand: it is given a UID when the Service takes the address over, and never released before.
type matcher func(v1alpha1.Frontend) bool

func frontendsOf(key asker, uid types.UID) matcher {
	return func(f v1alpha1.Frontend) bool {
		return mentions(f, key) && (f.Service.UID == "" || f.Service.UID == string(uid))
	}
}

func frontendsOfExactly(key asker, uid types.UID) matcher {
	return func(f v1alpha1.Frontend) bool { return mentions(f, key) && f.Service.UID == string(uid) }
}

func frontendsOfEarlier(key asker, uid types.UID) matcher {
	return func(f v1alpha1.Frontend) bool {
		return mentions(f, key) && f.Service.UID != "" && f.Service.UID != string(uid)
	}
}

func mentions(f v1alpha1.Frontend, service asker) bool {
	return f.ConfigMap == "" && keyOfReference(f.Service) == service
}

// vipsOf are the VIP objects with a frontend of a Service of the name, by name.
func (c *Controller) vipsOf(key types.NamespacedName) []*v1alpha1.VIP {
	names, err := c.vipIndex.IndexKeys(indexService, key.String())
	if err != nil {
		names = nil // the index exists since watch: no other error is possible
	}
	has := func(vip *v1alpha1.VIP) bool {
		return slices.ContainsFunc(vip.Spec.Frontends, func(f v1alpha1.Frontend) bool { return mentions(f, key) })
	}
	names = append(slices.Clone(names), c.vips.unseen(has)...)
	slices.Sort(names)
	var vips []*v1alpha1.VIP
	for _, name := range slices.Compact(names) {
		if vip, ok := c.vips.newest(name); ok && vip.DeletionTimestamp == nil && has(vip) {
			vips = append(vips, vip)
		}
	}
	return vips
}

// serve makes VIPs and status of a Service that is ours what it asks for.
func (c *Controller) serve(ctx context.Context, svc *corev1.Service, vips []*v1alpha1.VIP) error {
	key := keyOf(svc)
	mine, earlier := frontendsOf(key, svc.UID), frontendsOfEarlier(key, svc.UID)
	var own []*v1alpha1.VIP
	for _, vip := range vips {
		if slices.ContainsFunc(vip.Spec.Frontends, mine) {
			own = append(own, vip)
		} else if err := c.release(ctx, vip, earlier, noOwner); err != nil {
			return err
		}
	}
	request, err := c.config.Rules.Request(svc)
	if err != nil { // what it has stays as it is
		c.book.settle(key)
		return c.refuse(ctx, svc, err)
	}
	err = c.give(ctx, svc, request, own)
	if apierrors.IsInvalid(err) { // what a Service says of its backends is the API server's to judge
		c.book.settle(key)
		return c.refuse(ctx, svc, fmt.Errorf("its VIP cannot be written as its annotations want it, correct them: %w", err))
	}
	return err
}

// give makes what a Service asks for its own.
func (c *Controller) give(ctx context.Context, svc *corev1.Service, request source.Request, own []*v1alpha1.VIP) error {
	p := c.plan(svc, request, own)
	t := serviceTenant(request, &p.wish)
	created, failures, err := c.allocate(ctx, t, &p.wish)
	if err != nil {
		return err
	}
	p.adopt(created)
	if request.RequireAll && len(p.current) < len(request.Families) {
		p.dropUnpublished(svc)
	}
	return c.settle(ctx, svc, request, t, &p, failures)
}

// settle writes what was planned: the VIPs, then the status, and what is surplus goes when nobody is told of it any more.
func (c *Controller) settle(ctx context.Context, svc *corev1.Service, request source.Request, t tenant, p *plan, failures []failure) error {
	vips := p.ordered(request.Families)
	var conflicts []string
	for i, vip := range vips {
		synced, clashes, err := c.syncVIP(ctx, t, vip)
		if err != nil {
			return err
		}
		vips[i], conflicts = synced, append(conflicts, clashes...)
	}
	condition := c.judgeService(request, vips, failures, append(conflicts, p.notes...))
	if err := c.publish(ctx, svc, c.ingress(svc, vips), condition, p.surplus); err != nil {
		return err
	}
	var errs []error
	for _, vip := range p.surplus {
		errs = append(errs, c.release(ctx, vip, frontendsOfExactly(keyOf(svc), svc.UID), noOwner))
	}
	return errors.Join(errs...)
}

// retire takes back the addresses of a Service that is gone (svc nil) or not ours.
func (c *Controller) retire(ctx context.Context, key types.NamespacedName, svc *corev1.Service, vips []*v1alpha1.VIP) error {
	c.book.settle(key)
	if len(vips) == 0 {
		return nil
	}
	if svc != nil {
		if err := c.publish(ctx, svc, withoutAddresses(svc, vips), nil, vips); err != nil {
			return err
		}
	}
	var errs []error
	for _, vip := range vips {
		errs = append(errs, c.release(ctx, vip, frontendsOfEarlier(key, ""), noOwner))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Released", "service", key, "addresses", listAddresses(vips))
	return nil
}
