// Package topology is the lab's address plan: which hosts there are, what they are called, their addresses and routes. It
// is pure: it describes networks for package machine to make and makes none.
package topology

import (
	"fmt"
	"net/netip"
)

// Names of hosts, interfaces and bridges.
const (
	ControlPlane = "control-plane"
	Fabric       = "fabric"
	Client       = "client"
	Router       = "router"
	Far          = "far"

	// Bridge is the LAN in the fabric.
	Bridge = "br0"
	// Interface is every host's interface to its network.
	Interface = "eth0"
)

// MaxNodes is how many nodes the plan has addresses and port names for.
const MaxNodes = 250

// Families are the address families of a lab.
type Families struct{ V4, V6 bool }

// ParseFamilies reads ipv4, ipv6 or dual.
func ParseFamilies(text string) (Families, error) {
	switch text {
	case "ipv4":
		return Families{V4: true}, nil
	case "ipv6":
		return Families{V6: true}, nil
	case "dual":
		return Families{V4: true, V6: true}, nil
	}
	return Families{}, fmt.Errorf("families %q: want ipv4, ipv6 or dual", text)
}

// String is what ParseFamilies reads.
func (f Families) String() string {
	switch {
	case !f.V6:
		return "ipv4"
	case !f.V4:
		return "ipv6"
	}
	return "dual"
}

// Has says whether addresses like a are part of the lab.
func (f Families) Has(a netip.Addr) bool {
	if a.Is4() {
		return f.V4
	}
	return f.V6
}

// prefixes parses texts and keeps those of the families.
func (f Families) prefixes(texts ...string) []netip.Prefix {
	var kept []netip.Prefix
	for _, text := range texts {
		if p := netip.MustParsePrefix(text); f.Has(p.Addr()) {
			kept = append(kept, p)
		}
	}
	return kept
}

// ServiceCIDRs are the ranges of cluster IPs.
func (f Families) ServiceCIDRs() []netip.Prefix { return f.prefixes("10.96.0.0/16", "fd00:96::/112") }

// ClusterCIDRs are the ranges of all pods.
func (f Families) ClusterCIDRs() []netip.Prefix { return f.prefixes("10.244.0.0/16", "fd00:244::/32") }

// LAN is the nodes' network.
func (f Families) LAN() []netip.Prefix { return f.prefixes("10.87.0.0/16", "fd87::/64") }

// FarNet is the network behind the router.
func (f Families) FarNet() []netip.Prefix { return f.prefixes("10.88.0.0/24", "fd88::/64") }

// controlNet is where controller replicas live.
func (f Families) controlNet() []netip.Prefix { return f.prefixes("172.30.128.0/17", "fd30:1::/32") }

// API is the control plane's address toward the fabric, the one the API server advertises.
func (f Families) API() []netip.Prefix { return f.prefixes("172.30.0.1/30", "fd30::1/64") }

// Uplink is the fabric's address toward the control plane, where the agent listens.
func (f Families) Uplink() []netip.Prefix { return f.prefixes("172.30.0.2/30", "fd30::2/64") }

// Node is the name of node i, counted from 1.
func Node(i int) string { return fmt.Sprintf("n%d", i) }

// The numbers in an IPv6 address are the decimal ones read as hexadecimal, so that node 12 is fd87::12.

// NodeAddresses are those of node i on the LAN.
func (f Families) NodeAddresses(i int) []netip.Prefix {
	return f.prefixes(fmt.Sprintf("10.87.0.%d/16", i), fmt.Sprintf("fd87::%d/64", i))
}

// PodCIDRs are the pod ranges of node i.
func (f Families) PodCIDRs(i int) []netip.Prefix {
	return f.prefixes(fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:244:%d::/64", i))
}

// PodAddresses are those of the k-th pod that was ever added to node i, counted from 1.
func (f Families) PodAddresses(i, k int) []netip.Prefix {
	return f.prefixes(fmt.Sprintf("10.244.%d.%d/32", i, k+1), fmt.Sprintf("fd00:244:%d::%d/128", i, k+1))
}

// MaxPods is how many pods can ever be added to a node: they leave their addresses unused.
const MaxPods = 250

// podGateways are a node's addresses toward its pods.
func (f Families) podGateways(i int) []netip.Prefix {
	return f.prefixes(fmt.Sprintf("10.244.%d.1/32", i), fmt.Sprintf("fd00:244:%d::1/128", i))
}

func (f Families) gateways() []netip.Prefix { return f.prefixes("10.87.255.254/16", "fd87::ffff/64") }

func (f Families) clientAddresses() []netip.Prefix { return f.prefixes("10.87.1.1/16", "fd87::1:1/64") }

func (f Families) routerLAN() []netip.Prefix { return f.prefixes("10.87.254.1/16", "fd87::fe:1/64") }

func (f Families) routerFar() []netip.Prefix { return f.prefixes("10.88.0.1/24", "fd88::1/64") }

func (f Families) farAddresses() []netip.Prefix { return f.prefixes("10.88.0.2/24", "fd88::2/64") }

// Controller is the name of a controller replica's host, counted from 0.
func Controller(name string, k int) string { return fmt.Sprintf("%s-%d", name, k) }

func (f Families) controllerAddresses(k int) []netip.Prefix {
	return f.prefixes(fmt.Sprintf("172.30.128.%d/30", 4*k+2), fmt.Sprintf("fd30:1:%d::2/64", k))
}

func (f Families) controllerGateways(k int) []netip.Prefix {
	return f.prefixes(fmt.Sprintf("172.30.128.%d/30", 4*k+1), fmt.Sprintf("fd30:1:%d::1/64", k))
}

// MaxReplicas is how many controller replicas the plan has addresses for.
const MaxReplicas = 50

// Addresses are the addresses of prefixes.
func Addresses(prefixes []netip.Prefix) []netip.Addr {
	addresses := make([]netip.Addr, len(prefixes))
	for i, p := range prefixes {
		addresses[i] = p.Addr()
	}
	return addresses
}

// Join writes prefixes with commas between them, as Kubernetes' flags take them.
func Join(prefixes []netip.Prefix) string {
	text := ""
	for i, p := range prefixes {
		if i > 0 {
			text += ","
		}
		text += p.String()
	}
	return text
}
