package nft

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// seen is a connection to a VIP that went to a backend, which sees a source.
func seen(proto uint8, client, vip, backend, source string) *flow {
	b := netip.MustParseAddrPort(backend)
	return &flow{
		Forward: netlink.IPTuple{Protocol: proto, SrcIP: net.ParseIP(client), DstIP: net.ParseIP(vip)},
		Reverse: netlink.IPTuple{Protocol: proto, SrcIP: b.Addr().AsSlice(), SrcPort: b.Port(), DstIP: net.ParseIP(source)},
	}
}

func TestWhatBeganWithoutItsTranslationGoesAstray(t *testing.T) {
	const syn, established = 1, 3
	state := State{
		VIPs: addrs("10.0.0.100", "fd00::100"),
		Translations: []model.Translation{
			translation("10.0.0.100", "10.244.1.2:8080", model.TCP, model.FromClient),
			translation("fd00::100", "[fd00:1::1]:53", model.UDP, model.FromVIP),
		},
	}
	for name, test := range map[string]struct {
		flow  *flow
		state uint8 // of a TCP connection
		want  bool
	}{
		"a SYN of the client's":              {seen(unix.IPPROTO_TCP, "192.0.2.7", "10.0.0.100", "10.244.2.2:8080", "192.0.2.7"), syn, true},
		"one over IPv6":                      {seen(unix.IPPROTO_TCP, "2001:db8::7", "fd00::100", "[fd00:2::2]:8080", "2001:db8::7"), syn, true},
		"a connection":                       {seen(unix.IPPROTO_TCP, "192.0.2.7", "10.0.0.100", "10.244.2.2:8080", "192.0.2.7"), established, false},
		"a translated SYN":                   {seen(unix.IPPROTO_TCP, "192.0.2.7", "10.0.0.100", "10.244.2.2:8080", "10.0.0.1"), syn, false},
		"one to a backend that sees clients": {seen(unix.IPPROTO_TCP, "192.0.2.7", "10.0.0.100", "10.244.1.2:8080", "192.0.2.7"), syn, false},
		"one to another address":             {seen(unix.IPPROTO_TCP, "192.0.2.7", "10.0.0.200", "10.244.2.2:8080", "192.0.2.7"), syn, false},
		"one that is not forwarded by NAT":   {seen(unix.IPPROTO_TCP, "192.0.2.7", "10.0.0.100", "10.0.0.100:80", "192.0.2.7"), syn, false},
		"datagrams":                          {seen(unix.IPPROTO_UDP, "2001:db8::7", "fd00::100", "[fd00:1::1]:53", "2001:db8::7"), 0, true},
		"datagrams from the VIP":             {seen(unix.IPPROTO_UDP, "2001:db8::7", "fd00::100", "[fd00:1::1]:53", "fd00::100"), 0, false},
		"a ping":                             {seen(unix.IPPROTO_ICMP, "192.0.2.7", "10.0.0.100", "10.244.2.2:0", "192.0.2.7"), 0, false},
	} {
		if test.state != 0 {
			test.flow.ProtoInfo = &netlink.ProtoInfoTCP{State: test.state}
		}
		if got := astray(state)(test.flow); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestWhatLeftWithAnAddressOfTheLinkLeaks(t *testing.T) {
	for name, test := range map[string]struct {
		flow *flow
		want bool
	}{
		"IPv4":        {seen(unix.IPPROTO_UDP, "169.254.1.2", "10.244.2.2", "10.244.2.2:53", "169.254.1.2"), true},
		"IPv6":        {seen(unix.IPPROTO_UDP, "fd01::2", "fd00:1::1", "[fd00:1::1]:53", "fd01::2"), true},
		"masqueraded": {seen(unix.IPPROTO_UDP, "169.254.1.2", "10.244.2.2", "10.244.2.2:53", "10.0.0.1"), false},
		"another's":   {seen(unix.IPPROTO_UDP, "10.0.0.1", "10.244.2.2", "10.244.2.2:53", "10.0.0.1"), false},
	} {
		if got := outsideConfig.leaking(test.flow); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestWhatTheVIPItselfAnsweredPassesThisNode(t *testing.T) {
	passes := passing(addrs("10.0.0.100", "fd00::100"))
	for name, test := range map[string]struct {
		flow *flow
		want bool
	}{
		"a pod's datagrams":         {seen(unix.IPPROTO_UDP, "10.244.1.2", "10.0.0.100", "10.0.0.100:53", "10.0.0.1"), true},
		"a node's connection, IPv6": {seen(unix.IPPROTO_TCP, "fd00::1", "fd00::100", "[fd00::100]:80", "fd00::1"), true},
		"one that is balanced here": {seen(unix.IPPROTO_TCP, "fd00::1", "fd00::100", "[fd00:1::1]:8080", "fd00::1"), false},
		"one to another address":    {seen(unix.IPPROTO_UDP, "10.244.1.2", "10.0.0.200", "10.0.0.200:53", "10.0.0.1"), false},
	} {
		if got := passes(test.flow); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// TestKernelDivertsWhatPassedTheNode: of the connections to a VIP those are forgotten that another node's VIP answered.
func TestKernelDivertsWhatPassedTheNode(t *testing.T) {
	table, _ := realTable(t)
	vips := addrs("10.0.0.100", "fd00::100")
	kept := 0
	for _, f := range []*flow{
		seen(unix.IPPROTO_UDP, "10.244.1.2", "10.0.0.100", "10.0.0.100:53", "10.0.0.1"),
		seen(unix.IPPROTO_UDP, "fd00:1::2", "fd00::100", "[fd00::100]:53", "fd00::1"),
		seen(unix.IPPROTO_UDP, "10.244.1.3", "10.0.0.100", "10.244.2.2:53", "10.0.0.1"),
		seen(unix.IPPROTO_UDP, "fd00:1::3", "fd00::100", "[fd00:2::2]:53", "fd00::1"),
	} {
		f.Forward.SrcPort, f.Forward.DstPort, f.Reverse.DstPort, f.TimeOut = 40000, 53, 40000, 60
		if f.FamilyType = unix.AF_INET; f.Forward.SrcIP.To4() == nil {
			f.FamilyType = unix.AF_INET6
		}
		if err := netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(f.FamilyType), f); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.Divert(vips); err != nil {
		t.Fatal(err)
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range flows {
			if kept++; passing(vips)(f) {
				t.Errorf("left: %v", f)
			}
		}
	}
	if kept != 2 {
		t.Errorf("%d connections are left, not 2", kept)
	}
}
