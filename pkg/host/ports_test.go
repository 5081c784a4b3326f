package host_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
)

// translated are the connections to VIPs' port 80 with what the director made of them.
func (n *network) translated() (flows []*netlink.ConntrackFlow) {
	n.t.Helper()
	n.director.Do(func() error {
		for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
			all, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
			if err != nil {
				return err
			}
			for _, flow := range all {
				if vip, ok := netip.AddrFromSlice(flow.Forward.DstIP); ok && flow.Forward.DstPort == 80 && slices.Contains(n.state.VIPs, vip.Unmap()) {
					flows = append(flows, flow)
				}
			}
		}
		return nil
	})
	return flows
}

// sendFrom sends something from a port of an address.
func sendFrom(t *testing.T, space *netnstest.Space, proto, from, to string) {
	t.Helper()
	err := space.Try(func() error {
		dialer := net.Dialer{Timeout: 10 * time.Second, LocalAddr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from))}
		if proto == "tcp" {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))
		}
		conn, err := dialer.Dial(proto, to)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_, err = conn.Write([]byte("who"))
		return err
	})
	if err != nil {
		t.Fatalf("%s from %s to %s: %v", proto, from, to, err)
	}
}

// TestKernelAHolderAvoidsPortsThatItAskedOthersFrom: whoever had the VIP before may take what is answered to one of those for its own.
// From any other port of a client the director asks as well.
func TestKernelAHolderAvoidsPortsThatItAskedOthersFrom(t *testing.T) {
	n := build(t)
	elsewhere := []string{"10.0.0.101", "fd00::101"}
	n.backends[0].Address("eth0", "10.0.0.101/24", "fd00::101/64")
	from := n.state
	for _, vip := range elsewhere {
		n.state.VIPs = append(slices.Clone(n.state.VIPs), netip.MustParseAddr(vip))
	}
	slices.SortFunc(n.state.VIPs, netip.Addr.Compare)
	n.director.Do(func() error { return n.table.Apply(t.Context(), from, n.state) })
	const asked, other = 41000, 42000
	for i, vip := range vips {
		for _, proto := range []string{"tcp", "udp"} {
			sendFrom(t, n.director, proto, netip.AddrPortFrom(netip.MustParseAddr(directors[i]), asked).String(), net.JoinHostPort(elsewhere[i], "8080"))
			for _, port := range []uint16{asked, other} {
				sendFrom(t, n.client, proto, netip.AddrPortFrom(netip.MustParseAddr(clients[i]), port).String(), net.JoinHostPort(vip, "80"))
			}
		}
	}
	var flows []*netlink.ConntrackFlow
	netnstest.Eventually(t, "all connections are tracked", time.Minute, func() bool {
		flows = n.translated()
		return len(flows) >= 8
	})
	for _, flow := range flows {
		switch source := flow.Reverse.DstPort; {
		case flow.Forward.SrcPort == other && source != other:
			t.Errorf("asks a backend from port %d, not from the client's: %v", source, flow)
		case flow.Forward.SrcPort == asked && (source < 1024 || source >= 32768):
			t.Errorf("asks a backend from port %d: %v", source, flow)
		}
	}
}
