package announce

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"
)

// allNodes is the link-local all-nodes multicast address (RFC 4291, section 2.7.1), to which unsolicited neighbour
// advertisements go (RFC 4861, section 7.2.6).
var allNodes = netip.MustParseAddr("ff02::1")

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	zeroMAC   = make(net.HardwareAddr, 6)
)

const (
	icmpv6        = 58  // IANA protocol number
	hopLimit      = 255 // RFC 4861, section 7.1.2: what has another one came through a router and is dropped
	headerLen     = 14  // Ethernet II
	ipv6HeaderLen = 40  // RFC 8200, section 3
)

// frames returns the Ethernet frames that announce an address: for IPv4 a gratuitous ARP request and reply, since some
// hosts heed only one of them, for IPv6 an unsolicited neighbour advertisement.
func frames(addr netip.Addr, mac net.HardwareAddr, router bool) ([][]byte, error) {
	if addr.Is6() {
		frame, err := advertisement(addr, mac, router)
		return [][]byte{frame}, err
	}
	// The request has no target hardware address (RFC 5227, section 2.3), the reply our own (RFC 5944, section 4.6).
	request, err := gratuitous(arp.OperationRequest, addr, mac, zeroMAC)
	if err != nil {
		return nil, err
	}
	reply, err := gratuitous(arp.OperationReply, addr, mac, mac)
	return [][]byte{request, reply}, err
}

func gratuitous(op arp.Operation, addr netip.Addr, mac, target net.HardwareAddr) ([]byte, error) {
	return arpFrame(op, addr, mac, addr, target, broadcast)
}

func arpFrame(
	op arp.Operation, sender netip.Addr, mac net.HardwareAddr, target netip.Addr, targetMAC, to net.HardwareAddr,
) ([]byte, error) {
	packet, err := arp.NewPacket(op, mac, sender, targetMAC, target)
	if err != nil {
		return nil, fmt.Errorf("build an ARP packet for %s from %s: %w", target, mac, err)
	}
	body, err := packet.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build an ARP packet for %s from %s: %w", target, mac, err)
	}
	return append(header(to, mac, unix.ETH_P_ARP), body...), nil
}

// question is the frame that asks who has an address without claiming it: for IPv4 an ARP probe, whose sender has no IP address
// and enters no neighbour table (RFC 5227, section 2.1.1), for IPv6 the neighbour solicitation of duplicate address detection
// (RFC 4862, section 5.4.2). Answers to the former come to the sender's MAC address, to the latter to all nodes.
func question(addr netip.Addr, mac net.HardwareAddr) ([]byte, error) {
	if addr.Is6() {
		return solicitation(addr, mac)
	}
	return arpFrame(arp.OperationRequest, netip.IPv4Unspecified(), mac, addr, zeroMAC, broadcast)
}

// answer is the ARP reply to a probe: to who sent it, who has no IP address.
func answer(addr netip.Addr, mac, to net.HardwareAddr) ([]byte, error) {
	return arpFrame(arp.OperationReply, addr, mac, netip.IPv4Unspecified(), to, to)
}

func solicitation(addr netip.Addr, mac net.HardwareAddr) ([]byte, error) {
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return nil, fmt.Errorf("build a neighbour solicitation for %s from %s: %w", addr, mac, err)
	}
	// From the unspecified address there must be no source link-layer option (RFC 4861, section 4.3).
	return icmpFrame(&ndp.NeighborSolicitation{TargetAddress: addr}, netip.IPv6Unspecified(), group, mac, groupMAC(group))
}

// groupMAC is the Ethernet address of an IPv6 multicast group (RFC 2464, section 7).
func groupMAC(group netip.Addr) net.HardwareAddr {
	bytes := group.As16()
	return append(net.HardwareAddr{0x33, 0x33}, bytes[12:]...)
}

// advertisement is unsolicited (RFC 4861, section 7.2.6): to all nodes, without the solicited flag, with the one that overrides
// what neighbours have, and with the address that they are to have.
func advertisement(addr netip.Addr, mac net.HardwareAddr, router bool) ([]byte, error) {
	return icmpFrame(&ndp.NeighborAdvertisement{
		Router:        router,
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	}, addr, allNodes, mac, groupMAC(allNodes))
}

func icmpFrame(message ndp.Message, from, to netip.Addr, mac, toMAC net.HardwareAddr) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(message, from, to)
	if err != nil {
		return nil, fmt.Errorf("build a neighbour discovery message from %s (%s) to %s: %w", from, mac, to, err)
	}
	frame := header(toMAC, mac, unix.ETH_P_IPV6)
	frame = append(frame, 0x60, 0, 0, 0) // version 6
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(body)))
	frame = append(frame, icmpv6, hopLimit)
	frame = append(frame, from.AsSlice()...)
	frame = append(frame, to.AsSlice()...)
	return append(frame, body...), nil
}

// header is that of an Ethernet II frame.
func header(to, from net.HardwareAddr, etherType uint16) []byte {
	h := make([]byte, 0, headerLen+ipv6HeaderLen+64)
	h = append(append(h, to...), from...)
	return binary.BigEndian.AppendUint16(h, etherType)
}
