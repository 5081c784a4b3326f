package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/source"
	"github.com/fairlead/fairlead/pkg/why"
)

// ask connects and reads what there is to know, with the names of the VIPs that an argument means.
func (c *connection) ask(ctx context.Context, arg string) (why.Facts, []string, error) {
	if err := c.connect(); err != nil {
		return why.Facts{}, nil, err
	}
	facts, err := c.facts(ctx)
	if err != nil {
		return why.Facts{}, nil, err
	}
	names, err := c.find(ctx, facts, arg)
	return facts, names, err
}

// facts reads what there is to know. Only VIPs are needed: what else the user may not read is noted.
func (c *connection) facts(ctx context.Context) (why.Facts, error) {
	facts := why.Facts{Events: map[string][]corev1.Event{}}
	vips, err := c.clients.Fairlead.FairleadV1alpha1().VIPs().List(ctx, metav1.ListOptions{})
	if err != nil {
		return facts, fmt.Errorf("read VIPs: %w", err)
	}
	local := false
	for i := range vips.Items {
		vip := &vips.Items[i]
		if _, err := source.ParseVIPName(vip.Name); err != nil || vip.DeletionTimestamp != nil {
			continue
		}
		facts.VIPs = append(facts.VIPs, vip)
		local = local || slices.ContainsFunc(vip.Spec.Frontends, func(f v1alpha1.Frontend) bool {
			return f.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
		})
	}
	slices.SortFunc(facts.VIPs, func(a, b *v1alpha1.VIP) int { return cmp.Compare(a.Name, b.Name) })
	lacks := func(err error, so string) {
		if err != nil {
			facts.Unread = append(facts.Unread, fmt.Sprintf("%v: %s", err, so))
		}
	}
	lacks(c.readNodes(ctx, &facts), "nothing is said of nodes that may hold it and those that may not")
	lacks(c.readLeases(ctx, &facts), "the holder is the one of the VIP's status; nothing is said of moves, speakers and other nodes")
	if local {
		lacks(c.readSlices(ctx, &facts), "nothing is said of other nodes for Services with externalTrafficPolicy Local")
	}
	facts.Now = c.now()
	return facts, nil
}

func (c *connection) readNodes(ctx context.Context, facts *why.Facts) error {
	list, err := c.clients.Core.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	facts.Nodes = make([]*corev1.Node, 0, len(list.Items))
	for i := range list.Items {
		facts.Nodes = append(facts.Nodes, &list.Items[i])
	}
	return nil
}

func (c *connection) readLeases(ctx context.Context, facts *why.Facts) error {
	list, err := c.clients.Core.CoordinationV1().Leases(c.system).List(ctx, metav1.ListOptions{LabelSelector: election.LabelLease})
	if err != nil {
		return err
	}
	facts.Heartbeats, facts.Claims = map[string]election.Heartbeat{}, map[string]election.Holding{}
	wills := election.Wills{}
	for i := range list.Items {
		lease := &list.Items[i]
		if node, isHeartbeat := strings.CutPrefix(lease.Name, election.HeartbeatName("")); isHeartbeat {
			heartbeat, err := election.ReadHeartbeat(node, lease)
			if err = errors.Join(err, wills.Read(node, lease)); err != nil {
				facts.Unread = append(facts.Unread, fmt.Sprintf("Lease %s/%s: %v", lease.Namespace, lease.Name, err))
			}
			facts.Heartbeats[node] = heartbeat
		}
	}
	for i := range list.Items {
		lease := &list.Items[i]
		if vip, isClaim := strings.CutPrefix(lease.Name, election.ClaimName("")); isClaim && lease.Labels[election.LabelLease] == election.KindClaim {
			facts.Claims[vip] = election.ReadClaim(lease, wills)
		}
	}
	if len(facts.Heartbeats) == 0 {
		facts.Unread = append(facts.Unread, fmt.Sprintf("no Lease of a speaker is in namespace %s: "+
			"if Fairlead runs in another, name it by --system-namespace", c.system))
	}
	return nil
}

func (c *connection) readSlices(ctx context.Context, facts *why.Facts) error {
	all := c.clients.Core.DiscoveryV1().EndpointSlices(metav1.NamespaceAll)
	list, err := all.List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName})
	if err != nil {
		return err
	}
	facts.Slices = map[types.NamespacedName][]*discoveryv1.EndpointSlice{}
	for i := range list.Items {
		slice := &list.Items[i]
		service := types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		facts.Slices[service] = append(facts.Slices[service], slice)
	}
	return nil
}

// readEvents reads the events of VIPs. Those of objects without a namespace are in the default one.
func (c *connection) readEvents(ctx context.Context, facts *why.Facts, vips []string) {
	for _, vip := range vips {
		selector := fields.Set{"involvedObject.kind": "VIP", "involvedObject.name": vip}.AsSelector().String()
		list, err := c.clients.Core.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: selector})
		if err != nil {
			facts.Unread = append(facts.Unread, fmt.Sprintf("%v: what happened lately is not told", err))
			return
		}
		facts.Events[vip] = list.Items
	}
}

// find resolves what a user names to VIPs: an address in any notation, the name of a VIP or of a claim, or a Service, whose VIPs
// are all meant.
func (c *connection) find(ctx context.Context, facts why.Facts, arg string) ([]string, error) {
	exists := func(name string) ([]string, error) {
		if !slices.ContainsFunc(facts.VIPs, func(vip *v1alpha1.VIP) bool { return vip.Name == name }) {
			return nil, fmt.Errorf("there is no VIP %s: kubectl get vips lists those that there are", arg)
		}
		return []string{name}, nil
	}
	if addr, err := netip.ParseAddr(arg); err == nil {
		return exists(source.VIPName(addr.Unmap()))
	}
	if _, err := source.ParseVIPName(arg); err == nil {
		return exists(arg)
	}
	namespace, name, qualified := strings.Cut(arg, "/")
	if !qualified {
		namespace, name = c.namespace, arg
		claim, err := c.clients.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, arg, metav1.GetOptions{})
		if addr, parse := netip.ParseAddr(claimed(claim, err)); parse == nil {
			return exists(source.VIPName(addr))
		}
	}
	var names []string
	for _, vip := range facts.VIPs {
		if slices.ContainsFunc(vip.Spec.Frontends, func(f v1alpha1.Frontend) bool {
			return f.Service.Namespace == namespace && f.Service.Name == name
		}) {
			names = append(names, vip.Name)
		}
	}
	if len(names) > 0 {
		return names, nil
	}
	return nil, c.noVIP(ctx, namespace, name)
}

// claimed is the address that a claim has, "" if there is no such claim.
func claimed(claim *v1alpha1.VIP, err error) string {
	if err != nil {
		return ""
	}
	return claim.Spec.Address
}

// noVIP says why a Service has none: in the words of the controller, which are in a condition.
func (c *connection) noVIP(ctx context.Context, namespace, name string) error {
	service, err := c.clients.Core.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is neither a VIP nor a claim %s, nor a Service %s/%s: name an address, or a Service as namespace/name",
			name, namespace, name)
	}
	if err != nil {
		return fmt.Errorf("no VIP is of Service %s/%s: %w", namespace, name, err)
	}
	text := fmt.Sprintf("Service %s/%s has no VIP", namespace, name)
	if service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		text += fmt.Sprintf(": its type is %s, not %s", service.Spec.Type, corev1.ServiceTypeLoadBalancer)
	}
	for _, condition := range service.Status.Conditions {
		if strings.HasPrefix(condition.Type, v1alpha1.GroupName+"/") && condition.Status != metav1.ConditionTrue {
			text += fmt.Sprintf(": %s: %s", condition.Reason, condition.Message)
		}
	}
	return &ended{statusBad, fmt.Errorf("%s: see kubectl -n %s describe service %s", text, namespace, name)}
}
