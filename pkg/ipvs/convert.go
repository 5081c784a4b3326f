package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Flags of a service (linux/ip_vs.h): IP_VS_SVC_F_PERSISTENT, and IP_VS_SVC_F_HASHED, which the kernel sets on every service
// that is in its table.
const (
	flagPersistent uint32 = 0x01
	flagHashed     uint32 = 0x02
)

// forwardings are the connection flags of a destination, which IP_VS_CONN_F_FWD_MASK selects.
var forwardings = map[model.Forwarding]uint32{
	model.Masquerade: ipvs.ConnectionFlagMasq, model.Direct: ipvs.ConnectionFlagDirectRoute, model.Tunnel: ipvs.ConnectionFlagTunnel,
}

// Netmasks of a service: how much of a client's address a persistent service looks at, all of it. IPv4 takes a mask, IPv6
// a prefix length, and the kernel refuses an IPv6 service with any other than 1 to 128.
const (
	netmask4 uint32 = 0xffffffff
	netmask6 uint32 = 128
)

var protocols = map[model.Protocol]uint16{
	model.TCP: unix.IPPROTO_TCP, model.UDP: unix.IPPROTO_UDP, model.SCTP: unix.IPPROTO_SCTP,
}

var protocolNames = map[uint16]model.Protocol{
	unix.IPPROTO_TCP: model.TCP, unix.IPPROTO_UDP: model.UDP, unix.IPPROTO_SCTP: model.SCTP,
}

// toService returns the kernel's name for a server, with its scheduler and persistence if it is to be written.
func toService(server model.Server) (*ipvs.Service, error) {
	f, s := server.Frontend, server.Scheduler
	proto, ok := protocols[f.Proto]
	if !ok {
		return nil, fmt.Errorf("frontend %s has protocol %q: IPVS balances TCP, UDP and SCTP", frontend(f), f.Proto)
	}
	if !f.Addr.IsValid() || f.Addr.Is4In6() || f.Addr.Zone() != "" {
		return nil, fmt.Errorf("frontend %s has no plain IPv4 or IPv6 address", frontend(f))
	}
	service := &ipvs.Service{
		AddressFamily: addressFamily(f.Addr), Netmask: netmask4,
		Address: f.Addr.AsSlice(), Port: f.Port, Protocol: proto,
		SchedName: s.Name, Flags: s.Flags,
	}
	if server.Persistence > 0 {
		service.Flags, service.Timeout = service.Flags|flagPersistent, server.Persistence
	}
	if f.Addr.Is6() {
		service.Netmask = netmask6
	}
	return service, nil
}

func addressFamily(addr netip.Addr) uint16 {
	if addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func toDestination(b model.Backend) *ipvs.Destination {
	return &ipvs.Destination{
		AddressFamily: addressFamily(b.Addr.Addr()),
		Address:       b.Addr.Addr().AsSlice(), Port: b.Addr.Port(),
		Weight: int(b.Weight), ConnectionFlags: forwardings[b.Forwarding], UpperThreshold: b.MaxConnections,
	}
}

// fromService returns the frontend and scheduler of a service; false if it is not one of an address (a firewall mark) or
// not of a protocol we know.
func fromService(s *ipvs.Service) (model.Server, bool) {
	addr, valid := netip.AddrFromSlice(s.Address)
	proto, known := protocolNames[s.Protocol]
	if !valid || !known || s.FWMark != 0 {
		return model.Server{}, false
	}
	server := model.Server{
		Frontend:  model.Frontend{Addr: addr, Port: s.Port, Proto: proto},
		Scheduler: model.Scheduler{Name: s.SchedName, Flags: s.Flags &^ (flagHashed | flagPersistent)},
	}
	if s.Flags&flagPersistent != 0 {
		server.Persistence = s.Timeout
	}
	return server, true
}

func fromConnectionFlags(flags uint32) model.Forwarding {
	for forwarding, flag := range forwardings {
		if flags&ipvs.ConnectionFlagFwdMask == flag {
			return forwarding
		}
	}
	return otherForwarding
}

// otherForwarding is what nobody wants: to a proxy (bypass) or to this node.
const otherForwarding model.Forwarding = 255

// fromDestinations returns the backends in their order. Weight is read as 16 bits by the library, which is all that a
// Backend has.
func fromDestinations(destinations []*ipvs.Destination) []model.Backend {
	if len(destinations) == 0 {
		return nil
	}
	backends := make([]model.Backend, 0, len(destinations))
	for _, d := range destinations {
		if addr, ok := netip.AddrFromSlice(d.Address); ok {
			backends = append(backends, model.Backend{
				Addr: netip.AddrPortFrom(addr, d.Port), Weight: uint16(d.Weight), MaxConnections: d.UpperThreshold,
				Forwarding: fromConnectionFlags(d.ConnectionFlags),
			})
		}
	}
	slices.SortFunc(backends, model.Backend.Compare)
	return backends
}
