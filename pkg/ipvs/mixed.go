package ipvs

import (
	"encoding/binary"
	"fmt"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// mixedHandle is the library's handle with what the library cannot say: the address family of a destination that is not its
// service's, as of an IPv6 service that is tunnelled over IPv4. Without it the kernel reads 10.0.0.1 as a00:1::.
type mixedHandle struct {
	*ipvs.Handle
	family uint16 // of generic netlink messages for IPVS
	socket *nl.SocketHandle
}

// openHandle opens the sockets in the network namespace at a path, or in the calling thread's if that is empty.
func openHandle(namespace string) (handle, error) {
	library, err := ipvs.New(namespace)
	if err != nil {
		return nil, err
	}
	at := netns.None()
	if namespace != "" {
		if at, err = netns.GetFromPath(namespace); err != nil {
			library.Close()
			return nil, err
		}
		defer func() { _ = at.Close() }() // it was read from, no more
	}
	socket, err := nl.SubscribeAt(at, netns.None(), unix.NETLINK_GENERIC)
	if err != nil {
		library.Close()
		return nil, err
	}
	return &mixedHandle{Handle: library, socket: &nl.SocketHandle{Socket: socket}}, nil
}

func (h *mixedHandle) Close() {
	h.Handle.Close()
	h.socket.Close()
}

func (h *mixedHandle) NewDestination(s *ipvs.Service, d *ipvs.Destination) error {
	if d.AddressFamily == s.AddressFamily {
		return h.Handle.NewDestination(s, d)
	}
	return h.write(cmdNewDest, s, d)
}

func (h *mixedHandle) UpdateDestination(s *ipvs.Service, d *ipvs.Destination) error {
	if d.AddressFamily == s.AddressFamily {
		return h.Handle.UpdateDestination(s, d)
	}
	return h.write(cmdSetDest, s, d)
}

func (h *mixedHandle) DelDestination(s *ipvs.Service, d *ipvs.Destination) error {
	if d.AddressFamily == s.AddressFamily {
		return h.Handle.DelDestination(s, d)
	}
	return h.write(cmdDelDest, s, d)
}

// Commands and attributes of generic netlink for IPVS (linux/ip_vs.h).
const (
	cmdNewDest, cmdSetDest, cmdDelDest = 5, 6, 7

	attrService, attrDest = 1, 2 // of a command

	attrServiceFamily, attrServiceProtocol, attrServiceAddress, attrServicePort = 1, 2, 3, 4

	attrDestAddress, attrDestPort, attrDestForwarding, attrDestWeight, attrDestUpper, attrDestLower = 1, 2, 3, 4, 5, 6
	attrDestFamily                                                                                  = 11
)

// write sends one command about a destination and waits for the kernel's verdict.
func (h *mixedHandle) write(command uint8, s *ipvs.Service, d *ipvs.Destination) error {
	if h.family == 0 {
		family, err := netlink.GenlFamilyGet("IPVS")
		if err != nil {
			return fmt.Errorf("look up IPVS in generic netlink: %w", err)
		}
		h.family = family.ID
	}
	service := nl.NewRtAttr(attrService|unix.NLA_F_NESTED, nil)
	service.AddRtAttr(attrServiceFamily, nl.Uint16Attr(s.AddressFamily))
	service.AddRtAttr(attrServiceProtocol, nl.Uint16Attr(s.Protocol))
	service.AddRtAttr(attrServiceAddress, s.Address)
	service.AddRtAttr(attrServicePort, bigEndian(s.Port))
	dest := nl.NewRtAttr(attrDest|unix.NLA_F_NESTED, nil)
	dest.AddRtAttr(attrDestAddress, d.Address)
	dest.AddRtAttr(attrDestPort, bigEndian(d.Port))
	dest.AddRtAttr(attrDestForwarding, nl.Uint32Attr(d.ConnectionFlags))
	dest.AddRtAttr(attrDestWeight, nl.Uint32Attr(uint32(d.Weight)))
	dest.AddRtAttr(attrDestUpper, nl.Uint32Attr(d.UpperThreshold))
	dest.AddRtAttr(attrDestLower, nl.Uint32Attr(d.LowerThreshold))
	dest.AddRtAttr(attrDestFamily, nl.Uint16Attr(d.AddressFamily))

	request := nl.NewNetlinkRequest(int(h.family), unix.NLM_F_ACK)
	request.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_GENERIC: h.socket}
	request.AddData(&nl.Genlmsg{Command: command, Version: 1})
	request.AddData(service)
	request.AddData(dest)
	_, err := request.Execute(unix.NETLINK_GENERIC, 0)
	return err
}

func bigEndian(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }
