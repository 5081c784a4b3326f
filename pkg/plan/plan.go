// Package plan computes what one node should have in its kernel, and which nodes may hold which VIP, from a snapshot of the
// cluster. It is pure: same snapshot, same answer, on every node.
package plan

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// Snapshot is what a node knows at one moment.
type Snapshot struct {
	// VIPs of the cluster, in the order of their names.
	VIPs []*v1alpha1.VIP
	// Slices gives the EndpointSlices of a Service.
	Slices func(service types.NamespacedName) []*discoveryv1.EndpointSlice
	// Interfaces of this node.
	Interfaces []model.Interface
	// Held names the VIPs that this node has the right to announce.
	Held map[string]bool
}

// Result is the wanted state with what users ask about it.
type Result struct {
	State model.NodeState
	// Backends counts, by name of the VIP.
	Backends map[string]Count
	// Problems by name of the VIP: why this node leaves out all or part of it.
	Problems map[string]error
}

// Count is a number of backends that take new connections, of all there are.
type Count struct{ Ready, All int }

func (c Count) String() string { return fmt.Sprintf("%d/%d", c.Ready, c.All) }

// Node computes the state of the node that the snapshot was taken on.
func Node(snapshot Snapshot) Result {
	out := Result{Backends: map[string]Count{}, Problems: map[string]error{}}
	for _, vip := range snapshot.VIPs {
		if err := out.add(snapshot, vip); err != nil {
			out.Problems[vip.Name] = err
		}
	}
	slices.SortFunc(out.State.VIPs, netip.Addr.Compare)
	slices.SortFunc(out.State.Servers, func(a, b model.Server) int { return a.Compare(b.Frontend) })
	slices.SortFunc(out.State.SourceRanges, func(a, b model.SourceRange) int {
		return cmp.Or(a.Frontend.Compare(b.Frontend), a.Prefix.Compare(b.Prefix))
	})
	slices.SortFunc(out.State.Bindings, func(a, b model.Binding) int { return a.Addr.Compare(b.Addr) })
	return out
}

func (r *Result) add(snapshot Snapshot, vip *v1alpha1.VIP) error {
	addr, err := netip.ParseAddr(vip.Spec.Address)
	if err != nil {
		return fmt.Errorf("VIP %s: spec.address %q is not an address: delete the object", vip.Name, vip.Spec.Address)
	}
	r.State.VIPs = append(r.State.VIPs, addr)
	var count Count
	var problems []error
	for _, frontend := range vip.Spec.Frontends {
		key := model.Frontend{Addr: addr, Port: uint16(frontend.Port), Proto: model.Protocol(frontend.Protocol)}
		ranges, err := sourceRanges(key, frontend.SourceRanges)
		if err != nil {
			problems = append(problems, fmt.Errorf("VIP %s: port %d/%s stays closed: %w", vip.Name, frontend.Port, frontend.Protocol, err))
			continue
		}
		service := types.NamespacedName{Namespace: frontend.Service.Namespace, Name: frontend.Service.Name}
		backends, all := Backends(snapshot.Slices(service), addr, frontend.PortName, frontend.Protocol)
		count.All += all
		for _, backend := range backends {
			if backend.Weight > 0 {
				count.Ready++
			}
		}
		r.State.Servers = append(r.State.Servers, model.Server{Frontend: key, Scheduler: model.MaglevByPort, Backends: backends})
		r.State.SourceRanges = append(r.State.SourceRanges, ranges...)
	}
	r.Backends[vip.Name] = count
	if snapshot.Held[vip.Name] {
		name, err := Interface(snapshot.Interfaces, addr, vip.Spec.Interfaces)
		if err != nil {
			problems = append(problems, err)
		} else {
			r.State.Bindings = append(r.State.Bindings, model.Binding{Addr: addr, Interface: name})
		}
	}
	return errors.Join(problems...)
}

// sourceRanges are those of the frontend's family. Ranges of the other family alone are an error: nobody of this one may
// connect, and no range would mean everybody.
func sourceRanges(frontend model.Frontend, cidrs []string) ([]model.SourceRange, error) {
	var out []model.SourceRange
	for _, cidr := range cidrs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, fmt.Errorf("source range %q is not a CIDR", cidr)
		}
		if prefix.Addr().Is4() == frontend.Addr.Is4() {
			out = append(out, model.SourceRange{Frontend: frontend, Prefix: prefix.Masked()})
		}
	}
	if len(cidrs) > 0 && len(out) == 0 {
		return nil, fmt.Errorf("no source range is of its address family: %s", strings.Join(cidrs, ", "))
	}
	return out, nil
}

// Backends are the backends of one port of a Service for one address family, and how many endpoints there are in all,
// ready or not. Ready endpoints have weight 1. Endpoints that terminate but still serve have weight 0, so that they keep
// their connections, unless no endpoint is ready: then they take new ones too (KEP-1669).
func Backends(endpoints []*discoveryv1.EndpointSlice, vip netip.Addr, portName string, protocol corev1.Protocol) ([]model.Backend, int) {
	family := discoveryv1.AddressTypeIPv6
	if vip.Is4() {
		family = discoveryv1.AddressTypeIPv4
	}
	ready, draining, all := map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}, map[netip.AddrPort]bool{}
	for _, slice := range endpoints {
		port, ok := slicePort(slice, portName, protocol)
		if slice.AddressType != family || !ok {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if len(endpoint.Addresses) == 0 {
				continue
			}
			addr, err := netip.ParseAddr(endpoint.Addresses[0])
			if err != nil {
				continue
			}
			backend := netip.AddrPortFrom(addr, port)
			all[backend] = true
			switch conditions := endpoint.Conditions; {
			case is(conditions.Ready, true):
				ready[backend] = true
			case is(conditions.Terminating, false) && is(conditions.Serving, false):
				draining[backend] = true
			}
		}
	}
	return weigh(ready, draining), len(all)
}

// weigh gives every backend its weight. An address that is ready in one slice and draining in another is ready.
func weigh(ready, draining map[netip.AddrPort]bool) []model.Backend {
	out := make([]model.Backend, 0, len(ready)+len(draining))
	for addr := range ready {
		out = append(out, model.Backend{Addr: addr, Weight: 1})
	}
	for addr := range draining {
		switch {
		case ready[addr]:
		case len(ready) > 0:
			out = append(out, model.Backend{Addr: addr, Weight: 0})
		default:
			out = append(out, model.Backend{Addr: addr, Weight: 1})
		}
	}
	slices.SortFunc(out, model.Backend.Compare)
	return out
}

func is(condition *bool, unset bool) bool {
	if condition == nil {
		return unset
	}
	return *condition
}

func slicePort(slice *discoveryv1.EndpointSlice, name string, protocol corev1.Protocol) (uint16, bool) {
	for _, port := range slice.Ports {
		if port.Port == nil || (port.Name != nil && *port.Name != name) || (port.Name == nil && name != "") {
			continue
		}
		if (port.Protocol == nil && protocol == corev1.ProtocolTCP) || (port.Protocol != nil && *port.Protocol == protocol) {
			return uint16(*port.Port), true
		}
	}
	return 0, false
}
