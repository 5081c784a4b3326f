package host_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// translated are the connections to VIPs with what the director made of them.
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

// TestKernelANewHolderAsksFromLowPorts, and one that has had the VIP for a while from those of the clients.
func TestKernelANewHolderAsksFromLowPorts(t *testing.T) {
	n := build(t)
	ask := func() {
		for i, vip := range vips {
			for _, proto := range []string{"tcp", "udp"} {
				if _, _, err := n.client.Ask(proto, clients[i], vip, 80); err != nil {
					t.Fatalf("%s %s: %v", proto, vip, err)
				}
			}
		}
	}
	ask()
	young := map[uint16]bool{}
	for _, flow := range n.translated() {
		if young[flow.Forward.SrcPort] = true; flow.Reverse.DstPort < 1024 || flow.Reverse.DstPort >= 32768 {
			t.Errorf("a new holder asks from port %d: %v", flow.Reverse.DstPort, flow)
		}
	}
	if len(young) != 4 {
		t.Errorf("%d connections, not 4", len(young))
	}
	kept := n.state
	kept.Kept = n.state.VIPs
	n.director.Do(func() error { return n.table.Apply(t.Context(), n.state, kept) })
	ask()
	old := 0
	for _, flow := range n.translated() {
		if young[flow.Forward.SrcPort] {
			continue
		}
		if old++; flow.Reverse.DstPort != flow.Forward.SrcPort {
			t.Errorf("an old holder asks from port %d, not from the client's %d", flow.Reverse.DstPort, flow.Forward.SrcPort)
		}
	}
	if old != 4 {
		t.Errorf("%d connections of an old holder, not 4", old)
	}
}
