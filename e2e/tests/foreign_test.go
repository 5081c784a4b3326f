package tests

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/scenario"
)

// foreignServers are IPVS services of somebody else. That of a family that the node has not got fails and is not missed.
const foreignServers = "ipvsadm -A -t 192.0.2.1:80 -s rr && ipvsadm -a -t 192.0.2.1:80 -r 192.0.2.2:80 -m -w 3; " +
	"ipvsadm -A -t [2001:db8::1]:80 -s wlc && ipvsadm -a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m -w 3; true"

// foreign is what a node has that is not Fairlead's, by node, as its commands show it.
type foreign struct {
	*combination
	state map[string]string
}

// plantForeign makes on every node what Fairlead must not touch: IPVS services with destinations, addresses of one host on the
// LAN's interface and on a dummy one, a table of nftables. It ends with the test.
func plantForeign(t *testing.T, c *combination) foreign {
	t.Helper()
	f := foreign{combination: c, state: map[string]string{}}
	for i, node := range c.nodes {
		script := "set -e; ip link add foreign0 type dummy; ip link set foreign0 up; nft '" + foreignTable + "'; " + foreignServers
		for _, addr := range c.addresses {
			lan, apart := netip.MustParseAddr(fmt.Sprintf("10.87.200.%d", i+1)), netip.MustParseAddr("198.51.100.1")
			if addr.Is6() {
				lan, apart = netip.MustParseAddr(fmt.Sprintf("fd87::200:%d", i+1)), netip.MustParseAddr("2001:db8:1::1")
			}
			bits := addr.BitLen()
			script += fmt.Sprintf("; ip addr add %s dev eth0 nodad; ip addr add %s dev foreign0 nodad",
				netip.PrefixFrom(lan, bits), netip.PrefixFrom(apart, bits))
			t.Cleanup(func() {
				_, err := c.Output(context.Background(), node, "ip", "addr", "del", netip.PrefixFrom(lan, bits).String(), "dev", "eth0")
				must(t, err)
			})
		}
		_, err := c.Output(t.Context(), node, "sh", "-c", script)
		must(t, err)
		t.Cleanup(func() {
			_, err := c.Output(context.Background(), node, "sh", "-c", "ip link del foreign0; nft delete table inet foreign; "+
				"ipvsadm -D -t 192.0.2.1:80; ipvsadm -D -t [2001:db8::1]:80; true")
			must(t, err)
		})
		f.state[node] = f.look(t, node)
		for _, part := range []string{"192.0.2.2:80", "200", "foreign0", "set kept"} {
			if !strings.Contains(f.state[node], part) {
				t.Fatalf("node %s lacks the foreign %q:\n%s", node, part, f.state[node])
			}
		}
	}
	return f
}

const foreignTable = "add table inet foreign; add set inet foreign kept { type ipv4_addr; elements = { 192.0.2.7 }; }; " +
	"add chain inet foreign input { type filter hook input priority 0; }; add rule inet foreign input ip saddr @kept drop"

func (f foreign) look(t *testing.T, node string) string {
	t.Helper()
	out, err := f.Output(t.Context(), node, "sh", "-c", "ipvsadm -Sn | grep -e 192.0.2.1: -e 2001:db8::1; "+
		"ip -o addr show dev eth0 | grep -e 10.87.200. -e fd87::200:; ip -o addr show dev foreign0 scope global; nft list table inet foreign")
	must(t, err)
	return out
}

// check compares all that is not Fairlead's with what it was, and asks a ClusterIP, which is kube-proxy's, from every node.
func (f foreign) check(t *testing.T) {
	for _, node := range f.nodes {
		if now := f.look(t, node); now != f.state[node] {
			t.Errorf("on node %s was foreign:\n%s\nand is now:\n%s", node, f.state[node], now)
		}
	}
	if f.proxy == "" {
		return
	}
	service, err := f.Core.CoreV1().Services(scenario.Namespace).Get(t.Context(), "matrix", metav1.GetOptions{})
	must(t, err)
	for _, text := range service.Spec.ClusterIPs {
		for _, node := range f.nodes {
			answers(t, f.Scenario, node, netip.MustParseAddr(text), 80)
		}
	}
}
