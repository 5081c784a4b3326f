package announce

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
)

var mac = net.HardwareAddr{2, 0, 0, 0, 0, 7}

// ownMAC is this host's, otherMAC another's.
var ownMAC, otherMAC = mac, net.HardwareAddr{2, 0, 0, 0, 0, 8}

func TestGratuitousARPIsARequestAndAReply(t *testing.T) {
	vip := netip.MustParseAddr("10.0.0.100")
	all, err := frames(vip, mac, false)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d frames, error %v", len(all), err)
	}
	for i, op := range []arp.Operation{arp.OperationRequest, arp.OperationReply} {
		var p arp.Packet
		if err := p.UnmarshalBinary(all[i][headerLen:]); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(all[i][:headerLen], append(append(append([]byte{}, broadcast...), mac...), 8, 6)) {
			t.Errorf("the Ethernet header is % x", all[i][:headerLen])
		}
		if p.Operation != op || p.SenderIP != vip || p.TargetIP != vip || !bytes.Equal(p.SenderHardwareAddr, mac) {
			t.Errorf("the packet is %+v, want operation %v of %s", p, op, vip)
		}
	}
}

func TestNeighbourAdvertisementOverridesAndTellsOfRouters(t *testing.T) {
	vip := netip.MustParseAddr("fd00::100")
	for _, router := range []bool{false, true} {
		all, err := frames(vip, mac, router)
		if err != nil || len(all) != 1 {
			t.Fatalf("%d frames, error %v", len(all), err)
		}
		ip := all[0][headerLen:]
		if ip[0]>>4 != 6 || ip[6] != icmpv6 || ip[7] != 255 || int(ip[4])<<8+int(ip[5]) != len(ip)-ipv6HeaderLen {
			t.Errorf("the IPv6 header is % x", ip[:ipv6HeaderLen])
		}
		if netip.AddrFrom16([16]byte(ip[8:24])) != vip || netip.AddrFrom16([16]byte(ip[24:40])) != allNodes {
			t.Errorf("the IPv6 header is % x", ip[:ipv6HeaderLen])
		}
		m, err := ndp.ParseMessage(ip[ipv6HeaderLen:])
		if err != nil {
			t.Fatal(err)
		}
		na := m.(*ndp.NeighborAdvertisement)
		if na.Router != router || na.Solicited || !na.Override || na.TargetAddress != vip {
			t.Errorf("the advertisement is %+v", na)
		}
		lla, ok := na.Options[0].(*ndp.LinkLayerAddress)
		if !ok || lla.Direction != ndp.Target || !bytes.Equal(lla.Addr, mac) {
			t.Errorf("the option is %+v", na.Options[0])
		}
		if sum := checksum(ip); sum != 0xffff {
			t.Errorf("the checksum adds up to %#x", sum)
		}
	}
}

// checksum adds up the ICMPv6 message with its pseudo-header (RFC 8200, section 8.1): 0xffff if it is right.
func checksum(ip []byte) uint32 {
	pseudo := append([]byte{}, ip[8:40]...)
	pseudo = append(pseudo, 0, 0, ip[4], ip[5], 0, 0, 0, icmpv6)
	data := slices.Concat(pseudo, ip[ipv6HeaderLen:])
	if len(data)%2 == 1 {
		data = append(data, 0)
	}
	var sum uint32
	for i := 0; i < len(data); i += 2 {
		sum += uint32(data[i])<<8 + uint32(data[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

func TestNeighbourAdvertisementGoesToAllNodes(t *testing.T) {
	all, err := frames(netip.MustParseAddr("fd00::100"), mac, false)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0x33, 0x33, 0, 0, 0, 1}; !bytes.Equal(all[0][:6], want) {
		t.Errorf("the frame goes to % x, want % x", all[0][:6], want)
	}
}

func TestAQuestionClaimsNothing(t *testing.T) {
	frame, err := question(netip.MustParseAddr("10.0.0.100"), mac)
	if err != nil {
		t.Fatal(err)
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(frame[headerLen:]); err != nil {
		t.Fatal(err)
	}
	if p.Operation != arp.OperationRequest || !p.SenderIP.IsUnspecified() || p.TargetIP != netip.MustParseAddr("10.0.0.100") ||
		!bytes.Equal(p.SenderHardwareAddr, mac) || !bytes.Equal(frame[:6], broadcast) {
		t.Errorf("the ARP probe is %+v to % x", p, frame[:6])
	}

	frame, err = question(netip.MustParseAddr("fd00::12:3456"), mac)
	if err != nil {
		t.Fatal(err)
	}
	ip := frame[headerLen:]
	if to := []byte{0x33, 0x33, 0xff, 0x12, 0x34, 0x56}; !bytes.Equal(frame[:6], to) {
		t.Errorf("the solicitation goes to % x, want % x", frame[:6], to)
	}
	if from := netip.AddrFrom16([16]byte(ip[8:24])); from != netip.IPv6Unspecified() {
		t.Errorf("the solicitation comes from %s", from)
	}
	if to := netip.AddrFrom16([16]byte(ip[24:40])); to != netip.MustParseAddr("ff02::1:ff12:3456") {
		t.Errorf("the solicitation goes to %s", to)
	}
	message, err := ndp.ParseMessage(ip[ipv6HeaderLen:])
	if err != nil {
		t.Fatal(err)
	}
	ns := message.(*ndp.NeighborSolicitation)
	if ns.TargetAddress != netip.MustParseAddr("fd00::12:3456") || len(ns.Options) != 0 || checksum(ip) != 0xffff {
		t.Errorf("the solicitation is %+v, its checksum adds up to %#x", ns, checksum(ip))
	}
}

func TestAnAddressThatIsNoneIsRefused(t *testing.T) {
	if _, err := frames(netip.Addr{}, mac, false); err == nil {
		t.Error("no error for no address")
	}
}
