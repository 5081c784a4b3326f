package topology

import (
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/e2e/lab/machine"
)

// sysctls every network namespace of the lab gets, so that a host's own settings do not show through.
var sysctls = []machine.Sysctl{
	{Path: "net/ipv4/conf/all/rp_filter", Value: "0"},
	{Path: "net/ipv4/conf/default/rp_filter", Value: "0"},
	{Path: "net/ipv6/conf/all/accept_ra", Value: "0"},
	{Path: "net/ipv6/conf/default/accept_ra", Value: "0"},
	{Path: "net/ipv6/conf/default/router_solicitations", Value: "0"},
}

var forwarding = append([]machine.Sysctl{
	{Path: "net/ipv4/ip_forward", Value: "1"},
	{Path: "net/ipv6/conf/all/forwarding", Value: "1"},
}, sysctls...)

// ControlPlaneNetwork is the control plane's side, behind the uplink named link: a tap device or a veth made elsewhere.
func (f Families) ControlPlaneNetwork(link machine.Link) machine.Network {
	n := machine.Network{Sysctls: forwarding, Links: []machine.Link{link}, Addresses: on(link.Name, f.API())}
	for _, to := range [][]netip.Prefix{f.LAN(), f.FarNet()} {
		n.Routes = append(n.Routes, f.routes(to, f.Uplink())...)
	}
	return n
}

// UplinkNetwork is the fabric's side of the link to the control plane.
func (f Families) UplinkNetwork(link string) machine.Network {
	return machine.Network{
		Sysctls: forwarding, Links: []machine.Link{{Name: link}}, Addresses: on(link, f.Uplink()),
		Routes: f.routes(f.controlNet(), f.API()),
	}
}

// FabricNetwork is the LAN's bridge, whose own address is the nodes' default gateway.
func (f Families) FabricNetwork() machine.Network {
	return machine.Network{
		Sysctls: []machine.Sysctl{
			// The LAN is a switch: what it carries is nothing for the fabric's own netfilter.
			{Path: "net/bridge/bridge-nf-call-iptables", Value: "0"},
			{Path: "net/bridge/bridge-nf-call-ip6tables", Value: "0"},
			{Path: "net/bridge/bridge-nf-call-arptables", Value: "0"},
		},
		Links:     []machine.Link{{Name: Bridge, Kind: machine.Bridge, MAC: mac(0xffff)}},
		Addresses: on(Bridge, f.gateways()),
		Routes:    f.routes(f.FarNet(), f.routerLAN()),
	}
}

// NodeHost is node i of a cluster with these nodes.
func (f Families) NodeHost(i int, nodes []int) machine.Host {
	network := machine.Network{Sysctls: forwarding, Links: []machine.Link{lanLink(Node(i), i)}}
	network.Addresses = on(Interface, f.NodeAddresses(i))
	network.Routes = append(f.defaultRoutes(f.gateways()), f.routes(f.FarNet(), f.routerLAN())...)
	for _, other := range nodes {
		if other != i {
			network.Routes = append(network.Routes, f.routes(f.PodCIDRs(other), f.NodeAddresses(other))...)
		}
	}
	return machine.Host{Name: Node(i), Private: true, Network: network}
}

// ClientHost is the client on the LAN.
func (f Families) ClientHost() machine.Host {
	return machine.Host{Name: Client, Private: true, Network: machine.Network{
		Sysctls: sysctls, Links: []machine.Link{lanLink(Client, 0x101)}, Addresses: on(Interface, f.clientAddresses()),
		Routes: append(f.defaultRoutes(f.gateways()), f.routes(f.FarNet(), f.routerLAN())...),
	}}
}

// RouterHost is the router between the LAN (eth0) and the far network (eth1).
func (f Families) RouterHost() machine.Host {
	return machine.Host{Name: Router, Private: true, Network: machine.Network{
		Sysctls: forwarding, Links: []machine.Link{lanLink(Router, 0xfe01)},
		Addresses: on(Interface, f.routerLAN()), Routes: f.defaultRoutes(f.gateways()),
	}}
}

// FarHost is the client behind the router, which it is linked to directly; the router's end wants RouterFarNetwork.
func (f Families) FarHost() machine.Host {
	link := machine.Link{
		Name: Interface, Kind: machine.Veth, MAC: mac(0x8802), Peer: machine.Peer{Host: Router, Name: "eth1"},
	}
	return machine.Host{Name: Far, Private: true, Network: machine.Network{
		Sysctls: sysctls, Links: []machine.Link{link}, Addresses: on(Interface, f.farAddresses()),
		Routes: f.defaultRoutes(f.routerFar()),
	}}
}

// RouterFarNetwork is the router's interface to the far network.
func (f Families) RouterFarNetwork() machine.Network {
	return machine.Network{Addresses: on("eth1", f.routerFar())}
}

// PodHost is the host of the k-th pod of node i; the node's end wants PodNodeNetwork.
func (f Families) PodHost(name string, i, k int) machine.Host {
	link := machine.Link{
		Name: Interface, Kind: machine.Veth, Peer: machine.Peer{Host: Node(i), Name: podLink(k)},
	}
	network := machine.Network{
		Sysctls: sysctls, Links: []machine.Link{link}, Addresses: on(Interface, f.PodAddresses(i, k)),
	}
	for _, gateway := range f.podGateways(i) {
		network.Routes = append(network.Routes, machine.Route{To: gateway, Link: Interface})
	}
	network.Routes = append(network.Routes, f.defaultRoutes(f.podGateways(i))...)
	return machine.Host{Name: name, Private: true, Network: network}
}

// PodNodeNetwork is the node's end of the link to the k-th pod of node i.
func (f Families) PodNodeNetwork(i, k int) machine.Network {
	network := machine.Network{Addresses: on(podLink(k), f.podGateways(i))}
	for _, pod := range f.PodAddresses(i, k) {
		network.Routes = append(network.Routes, machine.Route{To: pod, Link: podLink(k)})
	}
	return network
}

// ControllerHost is the host of a controller replica; the control plane's end wants ControllerPeerNetwork.
func (f Families) ControllerHost(name string, k int) machine.Host {
	link := machine.Link{
		Name: Interface, Kind: machine.Veth, Peer: machine.Peer{Host: ControlPlane, Name: fmt.Sprintf("ctl%d", k)},
	}
	return machine.Host{Name: Controller(name, k), Private: true, Network: machine.Network{
		Sysctls: sysctls, Links: []machine.Link{link}, Addresses: on(Interface, f.controllerAddresses(k)),
		Routes: f.defaultRoutes(f.controllerGateways(k)),
	}}
}

// ControllerPeerNetwork is the control plane's end of the link to controller replica k.
func (f Families) ControllerPeerNetwork(k int) machine.Network {
	return machine.Network{Addresses: on(fmt.Sprintf("ctl%d", k), f.controllerGateways(k))}
}

// Port is the bridge port of a host on the LAN.
func Port(host string) string { return "lan-" + host }

func podLink(k int) string { return fmt.Sprintf("pod%d", k) }

func lanLink(host string, number int) machine.Link {
	return machine.Link{
		Name: Interface, Kind: machine.Veth, MAC: mac(number),
		Peer: machine.Peer{Host: Fabric, Name: Port(host), Bridge: Bridge},
	}
}

// mac is a locally administered address.
func mac(number int) string { return fmt.Sprintf("02:87:00:00:%02x:%02x", number>>8, number&0xff) }

func on(link string, prefixes []netip.Prefix) []machine.Address {
	addresses := make([]machine.Address, len(prefixes))
	for i, p := range prefixes {
		addresses[i] = machine.Address{Link: link, Prefix: p}
	}
	return addresses
}

func (f Families) defaultRoutes(via []netip.Prefix) []machine.Route {
	return f.routes(f.prefixes("0.0.0.0/0", "::/0"), via)
}

// routes pairs destinations with the gateways of their family.
func (f Families) routes(to, via []netip.Prefix) []machine.Route {
	var routes []machine.Route
	for _, t := range to {
		for _, v := range via {
			if t.Addr().Is4() == v.Addr().Is4() {
				routes = append(routes, machine.Route{To: t, Via: v.Addr()})
			}
		}
	}
	return routes
}
