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
	broadcast   = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodesMAC = net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1} // RFC 2464, section 7
	zeroMAC     = make(net.HardwareAddr, 6)
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
	packet, err := arp.NewPacket(op, mac, addr, target, addr)
	if err != nil {
		return nil, fmt.Errorf("build a gratuitous ARP for %s from %s: %w", addr, mac, err)
	}
	body, err := packet.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build a gratuitous ARP for %s from %s: %w", addr, mac, err)
	}
	return append(header(broadcast, mac, unix.ETH_P_ARP), body...), nil
}

func advertisement(addr netip.Addr, mac net.HardwareAddr, router bool) ([]byte, error) {
	body, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
		Router:        router,
		Override:      true,
		TargetAddress: addr,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	}, addr, allNodes)
	if err != nil {
		return nil, fmt.Errorf("build a neighbour advertisement for %s from %s: %w", addr, mac, err)
	}
	frame := header(allNodesMAC, mac, unix.ETH_P_IPV6)
	frame = append(frame, 0x60, 0, 0, 0) // version 6
	frame = binary.BigEndian.AppendUint16(frame, uint16(len(body)))
	frame = append(frame, icmpv6, hopLimit)
	frame = append(frame, addr.AsSlice()...)
	frame = append(frame, allNodes.AsSlice()...)
	return append(frame, body...), nil
}

// header is that of an Ethernet II frame.
func header(to, from net.HardwareAddr, etherType uint16) []byte {
	h := make([]byte, 0, headerLen+ipv6HeaderLen+64)
	h = append(append(h, to...), from...)
	return binary.BigEndian.AppendUint16(h, etherType)
}
