package tests

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// balanceByKeepalived starts keepalived on a node of its own, with the scheduler that is Fairlead's default, and prepares the
// servers' nodes for the forwardings that leave the client's address. Connections that are masqueraded show the servers the
// node's address, by a rule as keepalived's documentation has it.
func (c *course) balanceByKeepalived(b *testing.B) {
	b.Helper()
	ctx := within(b.Context(), b)
	var servers strings.Builder
	var v4, v6 []string
	for _, way := range keepalived {
		v4, v6 = append(v4, way.addr[ipv4].String()), append(v6, way.addr[ipv6].String())
		for family, addr := range way.addr {
			for _, port := range []int{portLines, portBulk, portNobody} {
				check := "TCP_CHECK {\n   connect_timeout 3\n  }"
				if port == portNobody {
					check = "" // nobody would pass it
				}
				c.virtualServer(&servers, family, addr, port, way.kind, "TCP", check)
			}
			c.virtualServer(&servers, family, addr, portLines, way.kind, "UDP", "")
		}
		c.add(pathKeepalived+way.path, way.addr)
	}
	// An instance of VRRP has addresses of one family; those of the other come along.
	config := fmt.Sprintf("vrrp_instance bench {\n state MASTER\n interface eth0\n virtual_router_id 51\n priority 100\n"+
		" virtual_ipaddress {\n  %s\n }\n virtual_ipaddress_excluded {\n  %s\n }\n}\n%s",
		strings.Join(v4, "\n  "), strings.Join(v6, "\n  "), servers.String())
	on := func(node, script string) {
		_, err := c.Output(ctx, node, "sh", "-ec", script)
		must(b, err)
	}
	nat, route, tunnel := keepalived[0].addr, keepalived[1].addr, keepalived[2].addr
	on(nodeKeepalived, fmt.Sprintf(`
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.vs.conntrack=1
		for family in ip ip6; do
			nft add table $family keepalived
			nft "add chain $family keepalived postrouting { type nat hook postrouting priority srcnat - 5; }"
		done
		nft 'add rule ip keepalived postrouting ct original ip daddr %s masquerade'
		nft 'add rule ip6 keepalived postrouting ct original ip6 daddr %s masquerade'`, nat[ipv4], nat[ipv6]))
	for _, node := range []string{nodeBackend1, nodeBackend2} {
		on(node, fmt.Sprintf(`
			sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
			ip link add keepalived type dummy
			ip link set keepalived up
			for vip in %s/32 %s/32; do ip addr add $vip dev keepalived; done
			for vip in %s/128 %s/128; do ip addr add $vip dev keepalived nodad; done
			ip link add tunl0 type ipip 2>&- || true
			ip link add ip6tnl0 type ip6tnl 2>&- || true
			ip link set tunl0 up
			ip link set ip6tnl0 up
			sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0`, route[ipv4], tunnel[ipv4], route[ipv6], tunnel[ipv6]))
	}
	runKeepalived(b, c.Scenario, nodeKeepalived, "", config)
	for _, way := range keepalived {
		for family, addr := range way.addr {
			must(b, scenario.Until(ctx, func() error {
				out, err := c.Output(ctx, nodeKeepalived, "ipvsadm", "-Ln", "-t", netip.AddrPortFrom(addr, portLines).String())
				want := netip.AddrPortFrom(c.backends[1][family], portLines).String()
				if err == nil && (!strings.Contains(out, want) || !strings.Contains(out, way.method)) {
					err = fmt.Errorf("keepalived has not set up %s by %s: %s", addr, way.method, out)
				}
				return err
			}))
		}
	}
}

// virtualServer writes one into a configuration of keepalived, with the servers of a family behind it.
func (c *course) virtualServer(config *strings.Builder, family int, addr netip.Addr, port int, kind, protocol, check string) {
	fmt.Fprintf(config, "virtual_server %s %d {\n lb_algo mh\n mh-port\n mh-fallback\n lb_kind %s\n protocol %s\n delay_loop 5\n", addr, port, kind, protocol)
	for _, backend := range c.backends {
		fmt.Fprintf(config, " real_server %s %d {\n  weight 1\n  %s\n }\n", backend[family], port, check)
	}
	config.WriteString("}\n")
}

// daemon is a keepalived that runs on a node. It takes its output.
type daemon struct {
	signals chan os.Signal
	done    chan struct{}
	mu      sync.Mutex
	output  strings.Builder
}

func (d *daemon) Write(output []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.Write(output)
}

// log is what it said so far.
func (d *daemon) log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.String()
}

// end sends it a signal and waits for its end.
func (d *daemon) end(signal os.Signal) {
	select {
	case d.signals <- signal:
	default: // it had one before
	}
	<-d.done
}

// runKeepalived runs it on a node, where a script of the shell prepares the way, until somebody or the benchmark ends it.
func runKeepalived(b *testing.B, s *scenario.Scenario, node, prepare, config string) *daemon {
	b.Helper()
	d := &daemon{signals: make(chan os.Signal, 1), done: make(chan struct{})}
	var status error
	go func() {
		defer close(d.done)
		status = s.Exec(context.Background(), node, cluster.Stdio{In: strings.NewReader(config), Out: d, Err: d, Signals: d.signals},
			"sh", "-ec", prepare+"\ncat > /run/keepalived.conf\nexec keepalived --dont-fork --log-console --use-file /run/keepalived.conf")
	}()
	b.Cleanup(func() {
		if d.end(syscall.SIGTERM); status != nil && b.Failed() {
			b.Logf("keepalived on %s ended: %v\n%s", node, status, d.log())
		}
	})
	return d
}
