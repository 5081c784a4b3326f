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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// standing is what Kubernetes says of a backend. Of an address that is listed twice the better one counts.
type standing uint8

const (
	ready    standing = iota
	reserve           // a node that is not Ready
	draining          // an endpoint that terminates and still serves
	absent            // an endpoint that does not serve: it is counted, no more
)

// member is a backend as Kubernetes sees it, before health checks.
type member struct {
	addr     netip.AddrPort
	standing standing
	node     string // that it is, or that it runs on; "" if that is not known
}

// members lists who may take the connections of a frontend, in the order of their addresses.
func (s *Snapshot) members(vip netip.Addr, frontend *v1alpha1.Frontend) ([]member, error) {
	backends := frontend.Backends
	if backends == nil {
		backends = &v1alpha1.Backends{}
	}
	port := uint16(cmp.Or(backends.Port, frontend.Port))
	switch backends.Kind {
	case v1alpha1.BackendPods, "":
		members := endpoints(s.Slices(serviceOf(frontend)), vip, frontend.PortName, frontend.Protocol)
		if isLocal(frontend) {
			members = slices.DeleteFunc(members, func(m member) bool { return m.node != s.Node })
		}
		return members, nil
	case v1alpha1.BackendNodePort:
		if frontend.NodePort == 0 {
			return nil, errors.New("the Service has no nodePort for it: set its spec.allocateLoadBalancerNodePorts to true, " +
				"or use backends of kind Pods")
		}
		return s.nodes(vip, frontend, uint16(frontend.NodePort), s.answersNodePort(frontend))
	case v1alpha1.BackendNodes:
		return s.nodes(vip, frontend, port, func(Machine) bool { return true })
	case v1alpha1.BackendStatic:
		return static(vip, frontend, port)
	}
	return nil, fmt.Errorf("backends.kind %q is not one of Pods, NodePort, Nodes, Static: set it to one of them in the pool", backends.Kind)
}

// answersNodePort leaves out nodes that are not to get connections from outside (KEP-1143); those without a pod of a Service
// with externalTrafficPolicy Local, which drop them; and this one: kube-proxy translates NodePorts in PREROUTING, which a
// packet to the VIP has passed when IPVS, in LOCAL_IN, gives it the node's own address. It would meet no socket there and be
// refused. What an isolated datapath sends comes by PREROUTING.
func (s *Snapshot) answersNodePort(frontend *v1alpha1.Frontend) func(Machine) bool {
	var local map[string]bool
	if isLocal(frontend) {
		local = nodesWithPods(s.Slices(serviceOf(frontend)))
	}
	return func(machine Machine) bool {
		_, excluded := machine.Labels[labelExclude]
		return !excluded && (s.Isolated || machine.Name != s.Node) && (local == nil || local[machine.Name])
	}
}

// nodes are those that the selector and allowed let pass, each by its first address of the VIP's family, or, where IPv6
// packets are tunnelled to nodes without one, by its first IPv4 address.
func (s *Snapshot) nodes(vip netip.Addr, frontend *v1alpha1.Frontend, port uint16, allowed func(Machine) bool) ([]member, error) {
	matches := labels.Everything()
	if selector := frontend.Backends.NodeSelector; selector != nil {
		var err error
		if matches, err = metav1.LabelSelectorAsSelector(selector); err != nil {
			return nil, fmt.Errorf("backends.nodeSelector cannot be read: %w", err)
		}
	}
	var out []member
	for _, machine := range s.machines() {
		addresses := reachable(vip, machine.Addresses, frontend.Forwarding)
		if len(addresses) == 0 || !allowed(machine) || !matches.Matches(labels.Set(machine.Labels)) {
			continue
		}
		m := member{addr: netip.AddrPortFrom(addresses[0], port), standing: reserve, node: machine.Name}
		if machine.Ready {
			m.standing = ready
		}
		out = append(out, m)
	}
	return once(out), nil
}

// reachable are those of addresses that packets to a VIP can be forwarded to: of its family, or, by a tunnel and for want of
// any, IPv4 ones for IPv6 packets. The kernel's own tunnel device for IPv6 unwraps no IPv4.
func reachable(vip netip.Addr, addresses []netip.Addr, forwarding v1alpha1.Forwarding) (out []netip.Addr) {
	for _, addr := range addresses {
		if addr.Is4() == vip.Is4() {
			out = append(out, addr)
		}
	}
	if len(out) == 0 && forwarding == v1alpha1.ForwardTunnel && vip.Is6() {
		return addresses
	}
	return out
}

// static are the listed addresses that the VIP's packets can go to. None of it is an error: every connection would be refused.
func static(vip netip.Addr, frontend *v1alpha1.Frontend, port uint16) ([]member, error) {
	var listed []netip.Addr
	addresses := frontend.Backends.Addresses
	for _, text := range addresses {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			return nil, fmt.Errorf("backends.addresses has %q, which is not a plain IPv4 or IPv6 address: change it in the pool", text)
		}
		listed = append(listed, addr)
	}
	var out []member
	for _, addr := range reachable(vip, listed, frontend.Forwarding) {
		out = append(out, member{addr: netip.AddrPortFrom(addr, port)})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("backends.addresses has none of the VIP's address family (%s): add one to the pool, "+
			"or give the Service addresses of the other family only", strings.Join(addresses, ", "))
	}
	return once(out), nil
}

// endpoints are those of one port of a Service for the VIP's family. One whose readiness is not said is ready.
func endpoints(all []*discoveryv1.EndpointSlice, vip netip.Addr, portName string, protocol corev1.Protocol) []member {
	family := discoveryv1.AddressTypeIPv6
	if vip.Is4() {
		family = discoveryv1.AddressTypeIPv4
	}
	var out []member
	for _, slice := range all {
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
			m := member{addr: netip.AddrPortFrom(addr, port), standing: standingOf(endpoint.Conditions)}
			if endpoint.NodeName != nil {
				m.node = *endpoint.NodeName
			}
			out = append(out, m)
		}
	}
	return once(out)
}

func standingOf(conditions discoveryv1.EndpointConditions) standing {
	switch {
	case is(conditions.Ready, true):
		return ready
	case is(conditions.Terminating, false) && is(conditions.Serving, false):
		return draining
	}
	return absent
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

// once sorts members by address and keeps the better standing of each.
func once(members []member) []member {
	slices.SortFunc(members, func(a, b member) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.standing, b.standing))
	})
	return slices.CompactFunc(members, func(a, b member) bool { return a.addr == b.addr })
}
