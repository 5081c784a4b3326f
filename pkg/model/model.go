// Package model holds the values that flow from the pure packages to those that touch the kernel: frontends, backends,
// virtual servers, and the state that a node should have. They are plain data on net/netip; all but those that hold a list
// compare with ==.
package model

import (
	"cmp"
	"net/netip"
	"slices"
)

// Protocol is the name of a transport protocol as Kubernetes writes it.
type Protocol string

// The transport protocols that a frontend may have.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// Frontend is a VIP with a port: what clients connect to. It identifies one IPVS service.
type Frontend struct {
	Addr  netip.Addr
	Port  uint16
	Proto Protocol
}

// Compare orders frontends by address, port and protocol.
func (f Frontend) Compare(other Frontend) int {
	return cmp.Or(f.Addr.Compare(other.Addr), cmp.Compare(f.Port, other.Port), cmp.Compare(f.Proto, other.Proto))
}

// Forwarding is how packets get to a backend.
type Forwarding uint8

// The ways of forwarding (ipvsadm(8): masquerading, gatewaying, ipip).
const (
	// Masquerade rewrites the destination, to any address and port; replies come back through this node.
	Masquerade Forwarding = iota
	// Direct hands the packet on as it is to the backend's link address. The backend has the VIP itself, is on a link of
	// this node, and answers the client past it.
	Direct
	// Tunnel wraps the packet as it is in one to the backend (IPIP). The backend has the VIP itself and answers the client
	// past this node.
	Tunnel
)

func (f Forwarding) String() string {
	switch f {
	case Direct:
		return "direct"
	case Tunnel:
		return "tunnel"
	default:
		return "masquerade"
	}
}

// Backend is a real server of a frontend (IPVS: destination). Weight 0 takes no new connections and keeps those it has.
type Backend struct {
	Addr       netip.AddrPort
	Weight     uint16
	Forwarding Forwarding
	// MaxConnections is how many connections the backend has before it gets no new ones until a quarter of them are gone
	// (IPVS: upper threshold); 0: no limit.
	MaxConnections uint32
}

// Compare orders backends by address and port: the order in which every node adds them, on which the mh scheduler depends.
func (b Backend) Compare(other Backend) int { return b.Addr.Compare(other.Addr) }

// Scheduler is an IPVS scheduler with its flags (linux/ip_vs.h).
type Scheduler struct {
	Name  string
	Flags uint32
}

// Flags of the schedulers sh and mh: IP_VS_SVC_F_SCHED_MH_FALLBACK and IP_VS_SVC_F_SCHED_MH_PORT.
const (
	FlagFallback uint32 = 0x08
	FlagPort     uint32 = 0x10
)

// Maglev maps a client's address to the same backend on every node, whatever its port.
var Maglev = Scheduler{Name: "mh", Flags: FlagFallback}

// MaglevByPort is the default scheduler: every node maps a client's address and port to the same backend, and to another
// one where that backend's weight is 0.
var MaglevByPort = Scheduler{Name: "mh", Flags: FlagFallback | FlagPort}

// SourceHash maps a client's address to one backend, and to another one where that backend's weight is 0: without the flag
// the kernel refuses the connection there. It goes without the port, which would make a worse mh of it.
var SourceHash = Scheduler{Name: "sh", Flags: FlagFallback}

// Server is a frontend with its scheduler and backends: one IPVS service with its destinations.
type Server struct {
	Frontend
	Scheduler Scheduler
	// Persistence is for how many seconds after its last connection a client address keeps its backend, whatever the
	// scheduler says meanwhile; 0: every connection is scheduled.
	Persistence uint32
	Backends    []Backend // in the order of Backend.Compare, no two with the same address and port
}

// Equal reports whether both are the same service with the same destinations.
func (s Server) Equal(other Server) bool {
	return s.SameService(other) && (Same(s.Backends, other.Backends) || slices.Equal(s.Backends, other.Backends))
}

// SameService reports whether both are the same service, whatever their destinations.
func (s Server) SameService(other Server) bool {
	return s.Frontend == other.Frontend && s.Scheduler == other.Scheduler && s.Persistence == other.Persistence
}

// Binding is a VIP on an interface of the node.
type Binding struct {
	Addr      netip.Addr
	Interface string
}

// SourceRange lets one network connect to a frontend that is not open to everybody.
type SourceRange struct {
	Frontend Frontend
	Prefix   netip.Prefix
}

// Source is whose address a backend sees connections come from.
type Source uint8

// The sources.
const (
	// FromNode is an address of the node that forwards: any backend can answer there.
	FromNode Source = iota
	// FromVIP is the VIP: replies go to whoever holds it, so that connections outlive their holder.
	FromVIP
	// FromClient leaves the client's address. The backend's replies must come by this node.
	FromClient
)

// Translation is the source of what goes from a VIP to a backend, where it is not FromNode.
type Translation struct {
	VIP     netip.Addr
	Proto   Protocol
	Backend netip.AddrPort
	Source  Source
}

// Compare orders translations by VIP, backend, protocol and source.
func (t Translation) Compare(other Translation) int {
	return cmp.Or(t.VIP.Compare(other.VIP), t.Backend.Compare(other.Backend), cmp.Compare(t.Proto, other.Proto),
		cmp.Compare(t.Source, other.Source))
}

// Receiver is a frontend whose connections this node serves as a backend, under the VIP itself and without holding it.
type Receiver struct {
	Frontend
	// Wrapped is the address of this node that packets come to wrapped in others; invalid: they come as they are.
	Wrapped netip.Addr
}

// NodeState is what one node should have in its kernel. The lists are sorted and hold nothing twice.
type NodeState struct {
	// VIPs that the node is ready to hold: their ports are closed but for the servers, their traffic is translated.
	VIPs []netip.Addr
	// Servers are programmed on the holder and on its standbys.
	Servers []Server
	// SourceRanges of the frontends that are restricted; a frontend with none is open to everybody.
	SourceRanges []SourceRange
	// Translations of sources, for backends that are not to see this node's address.
	Translations []Translation
	// Inside are the networks and addresses whose connections are translated to this node's address although their
	// backend is FromClient: its replies to them would not come by this node's IPVS.
	Inside []netip.Prefix
	// Receivers are the frontends that this node serves as a backend. Their VIPs are on the node, unannounced.
	Receivers []Receiver
	// Bindings are the VIPs that this node holds: bound and announced.
	Bindings []Binding
}

// Interface is a network interface that can carry VIPs, with the networks it is directly connected to.
type Interface struct {
	Name     string
	Prefixes []netip.Prefix
	// MAC is the hardware address as 02:00:00:00:00:01, empty if it has none.
	MAC string
}

// Same reports whether two lists are one, which takes a glance where comparing them takes long. Lists that are equal may be two.
func Same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }
