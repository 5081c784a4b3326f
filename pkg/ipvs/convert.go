package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// flagHashed is IP_VS_SVC_F_HASHED (linux/ip_vs.h): the kernel sets it on every service that is in its table.
const flagHashed uint32 = 0x02

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

// toService returns the kernel's name for a frontend, with a scheduler if it is to be written.
func toService(f model.Frontend, s model.Scheduler) (*ipvs.Service, error) {
	proto, ok := protocols[f.Proto]
	if !ok {
		return nil, fmt.Errorf("frontend %s has protocol %q: IPVS balances TCP, UDP and SCTP", frontend(f), f.Proto)
	}
	if !f.Addr.IsValid() || f.Addr.Is4In6() || f.Addr.Zone() != "" {
		return nil, fmt.Errorf("frontend %s has no plain IPv4 or IPv6 address", frontend(f))
	}
	service := &ipvs.Service{
		AddressFamily: unix.AF_INET, Netmask: netmask4,
		Address: f.Addr.AsSlice(), Port: f.Port, Protocol: proto,
		SchedName: s.Name, Flags: s.Flags,
	}
	if f.Addr.Is6() {
		service.AddressFamily, service.Netmask = unix.AF_INET6, netmask6
	}
	return service, nil
}

func toDestination(b model.Backend) *ipvs.Destination {
	return &ipvs.Destination{
		Address: b.Addr.Addr().AsSlice(), Port: b.Addr.Port(),
		Weight: int(b.Weight), ConnectionFlags: ipvs.ConnectionFlagMasq,
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
	return model.Server{
		Frontend:  model.Frontend{Addr: addr, Port: s.Port, Proto: proto},
		Scheduler: model.Scheduler{Name: s.SchedName, Flags: s.Flags &^ flagHashed},
	}, true
}

// fromDestinations returns the backends in their order. Weight is read as 16 bits by the library, which is all that a
// Backend has.
func fromDestinations(destinations []*ipvs.Destination) []model.Backend {
	if len(destinations) == 0 {
		return nil
	}
	backends := make([]model.Backend, 0, len(destinations))
	for _, d := range destinations {
		if addr, ok := netip.AddrFromSlice(d.Address); ok {
			backends = append(backends, model.Backend{Addr: netip.AddrPortFrom(addr, d.Port), Weight: uint16(d.Weight)})
		}
	}
	slices.SortFunc(backends, model.Backend.Compare)
	return backends
}
