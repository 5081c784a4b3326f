package tests

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// keepalivedContender is two nodes with keepalived.
type keepalivedContender struct {
	*scenario.Scenario
	b               *testing.B // which they end with
	addrs           []netip.Addr
	alone           bool // without speakers beside
	prepare, config string
	daemons         map[string]*daemon
}

// newKeepalivedContender makes one of so many addresses. The first one's server is checked, which tells that it balances.
func newKeepalivedContender(b *testing.B, s *scenario.Scenario, count int, alone bool) *keepalivedContender {
	b.Helper()
	k := &keepalivedContender{Scenario: s, b: b, alone: alone, daemons: map[string]*daemon{}}
	for addr := keepalivedAddress; len(k.addrs) < count; addr = addr.Next() {
		k.addrs = append(k.addrs, addr)
	}
	k.prepare, k.config = k.script(), k.configuration(nodeAddress(b, s, failoverServer, true))
	ctx := within(b.Context(), b)
	for _, node := range keepalivedNodes {
		must(b, k.start(ctx, node))
		_, err := k.holder(ctx, "") // the first is to be it before the next one starts
		must(b, err)
	}
	return k
}

// script prepares a node. What a killed one left is taken away: the first that is not there means that none is.
func (k *keepalivedContender) script() string {
	var bound, services strings.Builder
	for _, addr := range k.addrs {
		fmt.Fprintf(&bound, "addr del %s/32 dev eth0\n", addr)
		fmt.Fprintf(&services, "-D -t %s:80\n", addr)
	}
	return fmt.Sprintf(`
		sysctl -qw net.ipv4.ip_forward=1 net.ipv4.vs.conntrack=1
		nft 'add table ip keepalived; flush table ip keepalived
			add chain ip keepalived postrouting { type nat hook postrouting priority srcnat - 5; }
			add rule ip keepalived postrouting ct original ip daddr %s-%s masquerade'
		echo '%s' | ip -batch - 2>&- || true
		echo '%s' | ipvsadm --restore 2>&- || true`, k.addrs[0], k.addrs[len(k.addrs)-1], bound.String(), services.String())
}

// configuration has one instance of VRRP: its packets name the first address, the others come along.
func (k *keepalivedContender) configuration(server netip.Addr) string {
	var servers strings.Builder
	addresses := fmt.Sprintf(" virtual_ipaddress {\n  %s\n }\n", k.addrs[0])
	check := "TCP_CHECK {\n   connect_timeout 3\n  }"
	for i, addr := range k.addrs {
		if i > 0 {
			addresses += fmt.Sprintf(" virtual_ipaddress_excluded {\n  %s\n }\n", addr)
			check = ""
		}
		fmt.Fprintf(&servers, "virtual_server %s 80 {\n lb_algo rr\n lb_kind NAT\n protocol TCP\n delay_loop 5\n"+
			" real_server %s %d {\n  weight 1\n  %s\n }\n}\n", addr, server, portOf(i, len(k.addrs)), check)
	}
	return fmt.Sprintf("vrrp_instance failover {\n state BACKUP\n nopreempt\n interface eth0\n virtual_router_id 52\n"+
		" priority 100\n advert_int 1\n%s}\n%s", addresses, servers.String())
}

func (k *keepalivedContender) start(ctx context.Context, node string) error {
	if k.alone {
		if err := k.Fault(ctx, cluster.StopSpeaker, node); err != nil {
			return err
		}
	}
	k.daemons[node] = runKeepalived(k.b, k.Scenario, node, k.prepare, k.config)
	return nil
}

func (*keepalivedContender) String() string            { return "keepalived" }
func (k *keepalivedContender) addresses() []netip.Addr { return k.addrs }

// meets is false for an upgrade: a keepalived that is stopped gives its address away, as on a node that is drained.
func (*keepalivedContender) meets(blow blow) bool { return !blow.stays }

// state is what a keepalived said last that it is, if it balances; no server is with it whose check failed.
func (k *keepalivedContender) state(node string) string {
	log := k.daemons[node].log()
	_, state, _ := strings.Cut(log[max(0, strings.LastIndex(log, "Entering ")):], " ")
	state, _, _ = strings.Cut(state, " STATE")
	if !strings.Contains(log, "Gained quorum") || strings.Count(log, "Removing service") > strings.Count(log, "Adding service") {
		return "not balancing, " + state
	}
	return state
}

// holder waits until one is master, and until the other is ready if it need not be another.
func (k *keepalivedContender) holder(ctx context.Context, not string) (holder string, err error) {
	err = scenario.Until(ctx, func() error {
		states := map[string]string{}
		for node := range k.daemons {
			if node != not {
				states[k.state(node)] = node
			}
		}
		holder = states["MASTER"]
		if _, ready := states["BACKUP"]; holder == "" || not == "" && len(k.daemons) > 1 && !ready {
			return fmt.Errorf("states of keepalived and their nodes: %v", states)
		}
		return nil
	})
	return holder, err
}

func (k *keepalivedContender) strike(ctx context.Context, blow blow, node string) error {
	if blow.signal != 0 {
		k.daemons[node].end(blow.signal)
		return nil
	}
	return blow.strike(ctx, k.Scenario, node)
}

func (k *keepalivedContender) mend(ctx context.Context, blow blow, node string) error {
	if blow.signal == 0 {
		if err := blow.mend(ctx, k.Scenario, node); err != nil {
			return err
		}
		if !k.alone { // its speaker's start would be in the way of the next run
			if err := scenario.Until(ctx, func() error { return atWork(ctx, k.Scenario, node) }); err != nil {
				return err
			}
		}
	}
	if !blow.outlived {
		k.daemons[node].end(syscall.SIGKILL) // of a node that lost power it is waited for only
		if err := k.start(ctx, node); err != nil {
			return err
		}
	}
	_, err := k.holder(ctx, "")
	return err
}
