package nft

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// seen is a connection to a VIP that went to a backend, which sees a source.
func seen(proto uint8, client, vip, backend, source string) flow {
	at := func(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), 0) }
	return flow{proto: proto, src: at(client), dst: at(vip), replySrc: netip.MustParseAddrPort(backend), replyDst: at(source)}
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
		flow  flow
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
		test.flow.tcpState = test.state
		if got := astray(state)(test.flow); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestWhatLeftWithAnAddressOfTheLinkLeaks(t *testing.T) {
	for name, test := range map[string]struct {
		flow flow
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
		flow flow
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

// remember puts a connection into conntrack.
func remember(t testing.TB, f flow) {
	t.Helper()
	ip := func(addr netip.AddrPort) net.IP { return addr.Addr().AsSlice() }
	entry := &netlink.ConntrackFlow{
		Forward: netlink.IPTuple{Protocol: f.proto, SrcIP: ip(f.src), DstIP: ip(f.dst), SrcPort: f.src.Port(), DstPort: f.dst.Port()},
		Reverse: netlink.IPTuple{Protocol: f.proto, SrcIP: ip(f.replySrc), DstIP: ip(f.replyDst), SrcPort: f.replySrc.Port(), DstPort: f.replyDst.Port()},
		TimeOut: 60, FamilyType: unix.AF_INET,
	}
	if f.src.Addr().Is6() {
		entry.FamilyType = unix.AF_INET6
	}
	if f.proto == unix.IPPROTO_TCP {
		entry.ProtoInfo = &netlink.ProtoInfoTCP{State: f.tcpState}
	}
	if err := netlink.ConntrackCreate(netlink.ConntrackTable, netlink.InetFamily(entry.FamilyType), entry); err != nil {
		t.Fatal(err)
	}
}

// remembered are the connections that conntrack has, in the order of their sources.
func remembered(t testing.TB) (flows []flow) {
	t.Helper()
	err := forget(func(f flow) bool {
		flows = append(flows, f)
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(flows, func(a, b flow) int { return a.src.Compare(b.src) })
	return flows
}

func TestKernelConntrackIsReadAsItIs(t *testing.T) {
	realTable(t)
	ap := netip.MustParseAddrPort
	want := []flow{
		{unix.IPPROTO_UDP, ap("10.244.1.2:40000"), ap("10.0.0.100:53"), ap("10.0.0.21:5353"), ap("10.0.0.1:1024"), 0},
		{unix.IPPROTO_TCP, ap("10.244.1.3:40001"), ap("10.0.0.100:80"), ap("10.0.0.21:8080"), ap("10.0.0.1:40001"), nl.TCP_CONNTRACK_ESTABLISHED},
		{unix.IPPROTO_TCP, ap("[fd00::10]:40002"), ap("[fd00::100]:80"), ap("[fd00::21]:8080"), ap("[fd00::1]:40002"), nl.TCP_CONNTRACK_SYN_SENT},
	}
	for _, f := range want {
		remember(t, f)
	}
	if got := remembered(t); !slices.Equal(got, want) {
		t.Errorf("read: %v\nwant: %v", got, want)
	}
}

// TestWhatIsCutOffIsNoFlow: a kernel that says less than is known of, or a message that is not whole, is nothing to fail at.
func TestWhatIsCutOffIsNoFlow(t *testing.T) {
	whole := nl.NewRtAttr(nl.CTA_TUPLE_ORIG|unix.NLA_F_NESTED, nil)
	whole.AddRtAttr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, nil).AddRtAttr(nl.CTA_IP_V4_DST, []byte{10, 0, 0, 100})
	whole.AddRtAttr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, nil).AddRtAttr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_TCP})
	message := whole.Serialize()
	if f := parseFlow(message); f.dst.Addr() != netip.MustParseAddr("10.0.0.100") || f.proto != unix.IPPROTO_TCP {
		t.Errorf("read: %v", f)
	}
	for n := range message {
		if f := parseFlow(message[:n]); f != (flow{}) {
			t.Errorf("%d bytes of it are read as %v", n, f)
		}
	}
}

// TestKernelDivertsWhatPassedTheNode: of the connections to a VIP those are forgotten that another node's VIP answered.
func TestKernelDivertsWhatPassedTheNode(t *testing.T) {
	table, _ := realTable(t)
	vips := addrs("10.0.0.100", "fd00::100")
	for i, f := range []flow{
		seen(unix.IPPROTO_UDP, "10.244.1.2", "10.0.0.100", "10.0.0.100:53", "10.0.0.1"),
		seen(unix.IPPROTO_UDP, "fd00:1::2", "fd00::100", "[fd00::100]:53", "fd00::1"),
		seen(unix.IPPROTO_UDP, "10.244.1.3", "10.0.0.100", "10.244.2.2:53", "10.0.0.1"),
		seen(unix.IPPROTO_UDP, "fd00:1::3", "fd00::100", "[fd00:2::2]:53", "fd00::1"),
	} {
		f.src = netip.AddrPortFrom(f.src.Addr(), uint16(40000+i))
		f.dst = netip.AddrPortFrom(f.dst.Addr(), 53)
		f.replyDst = netip.AddrPortFrom(f.replyDst.Addr(), uint16(40000+i))
		remember(t, f)
	}
	if err := table.Divert(vips); err != nil {
		t.Fatal(err)
	}
	left := remembered(t)
	for _, f := range left {
		if passing(vips)(f) {
			t.Errorf("left: %v", f)
		}
	}
	if len(left) != 2 {
		t.Errorf("%d connections are left, not 2: %v", len(left), left)
	}
}

// BenchmarkKernelDivert looks for what to forget among many connections, for an address that none of them goes to.
func BenchmarkKernelDivert(b *testing.B) {
	table, _ := realTable(b)
	const connections = 20_000 // the lab's guest has no room for 100,000
	for i := range connections {
		client := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		remember(b, flow{
			proto: unix.IPPROTO_UDP, src: netip.AddrPortFrom(client, uint16(1024+i>>16)), dst: netip.MustParseAddrPort("10.0.0.100:53"),
			replySrc: netip.MustParseAddrPort("10.244.2.2:53"), replyDst: netip.AddrPortFrom(client, uint16(1024+i>>16)),
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := table.Divert(addrs("10.0.0.200")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(connections, "connections")
}
