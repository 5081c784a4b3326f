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

// Backend is a real server of a frontend (IPVS: destination). Weight 0 takes no new connections and keeps those it has.
type Backend struct {
	Addr   netip.AddrPort
	Weight uint16
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
	Backends  []Backend // in the order of Backend.Compare, no two with the same address and port
}

// Equal reports whether both are the same service with the same destinations.
func (s Server) Equal(other Server) bool {
	return s.Frontend == other.Frontend && s.Scheduler == other.Scheduler && slices.Equal(s.Backends, other.Backends)
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

// NodeState is what one node should have in its kernel. The lists are sorted and hold nothing twice.
type NodeState struct {
	// VIPs that the node is ready to hold: their ports are closed but for the servers, their traffic is translated.
	VIPs []netip.Addr
	// Servers are programmed on the holder and on its standbys.
	Servers []Server
	// SourceRanges of the frontends that are restricted; a frontend with none is open to everybody.
	SourceRanges []SourceRange
	// Bindings are the VIPs that this node holds: bound and announced.
	Bindings []Binding
}

// Interface is a network interface that can carry VIPs, with the networks it is directly connected to.
type Interface struct {
	Name     string
	Prefixes []netip.Prefix
}
