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
	var addresses []string
	for _, way := range keepalived {
		addresses = append(addresses, way.addr)
		for _, port := range []int{portLines, portBulk, portNobody} {
			fmt.Fprintf(&servers, "virtual_server %s %d {\n lb_algo mh\n mh-port\n mh-fallback\n lb_kind %s\n protocol TCP\n delay_loop 5\n", way.addr, port, way.kind)
			for _, backend := range c.backends {
				check := "TCP_CHECK {\n   connect_timeout 3\n  }"
				if port == portNobody {
					check = "" // nobody would pass it
				}
				fmt.Fprintf(&servers, " real_server %s %d {\n  weight 1\n  %s\n }\n", backend, port, check)
			}
			servers.WriteString("}\n")
		}
		c.paths = append(c.paths, path{name: pathKeepalived + way.path, addr: netip.MustParseAddr(way.addr)})
	}
	config := fmt.Sprintf("vrrp_instance bench {\n state MASTER\n interface eth0\n virtual_router_id 51\n priority 100\n"+
		" virtual_ipaddress {\n  %s\n }\n}\n%s", strings.Join(addresses, "\n  "), servers.String())
	on := func(node, script string) {
		_, err := c.Output(ctx, node, "sh", "-ec", script)
		must(b, err)
	}
	on(nodeKeepalived, fmt.Sprintf(`
		sysctl -qw net.ipv4.ip_forward=1 net.ipv4.vs.conntrack=1
		nft add table ip keepalived
		nft 'add chain ip keepalived postrouting { type nat hook postrouting priority srcnat - 5; }'
		nft 'add rule ip keepalived postrouting ct original ip daddr %s masquerade'`, keepalived[0].addr))
	for _, node := range []string{nodeBackend1, nodeBackend2} {
		on(node, fmt.Sprintf(`
			sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
			ip link add keepalived type dummy
			ip link set keepalived up
			ip addr add %s/32 dev keepalived
			ip addr add %s/32 dev keepalived
			ip link add tunl0 type ipip 2>&- || true
			ip link set tunl0 up
			sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.tunl0.rp_filter=0`, keepalived[1].addr, keepalived[2].addr))
	}
	runKeepalived(b, c.Scenario, nodeKeepalived, "", config)
	for _, way := range keepalived {
		must(b, scenario.Until(ctx, func() error {
			out, err := c.Output(ctx, nodeKeepalived, "ipvsadm", "-Ln", "-t", fmt.Sprintf("%s:%d", way.addr, portLines))
			if want := fmt.Sprintf("%s:%d", c.backends[1], portLines); err == nil && (!strings.Contains(out, want) || !strings.Contains(out, way.method)) {
				err = fmt.Errorf("keepalived has not set up %s by %s: %s", way.addr, way.method, out)
			}
			return err
		}))
	}
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
