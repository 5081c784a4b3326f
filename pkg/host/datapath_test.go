package host_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/host"
	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
	"github.com/fairlead/fairlead/pkg/plan"
)

// The addresses of the test's LAN, of both families.
var (
	vips      = []string{"10.0.0.100", "fd00::100"}
	directors = []string{"10.0.0.1", "fd00::1"}
	clients   = []string{"10.0.0.10", "fd00::10"}
	friends   = []string{"10.0.0.11", "fd00::11"} // the client's other addresses
)

// network is a client, a director and two backends on one LAN; the director holds the VIPs.
type network struct {
	t                *testing.T
	client, director *netnstest.Space
	backends         []*netnstest.Space
	table            *nft.Table
	state            nft.State
	servers          []model.Server
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build makes the network and brings the VIPs up in the order of effects.
func build(t *testing.T) *network {
	t.Helper()
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	n := &network{t: t}
	n.client = lan.Host("10.0.0.10/24", "fd00::10/64", "10.0.0.11/24", "fd00::11/64")
	n.director = lan.Host("10.0.0.1/24", "fd00::1/64")
	for i := 1; i <= 2; i++ {
		backend := lan.Host(fmt.Sprintf("10.0.0.2%d/24", i), fmt.Sprintf("fd00::2%d/64", i))
		n.backends = append(n.backends, backend)
		backend.Serve(8080, fmt.Sprintf("b%d", i))
	}
	n.director.Serve(22, "director")

	for i, vip := range vips {
		addr := netip.MustParseAddr(vip)
		n.state.VIPs = append(n.state.VIPs, addr)
		for _, proto := range []model.Protocol{model.TCP, model.UDP} {
			f := model.Frontend{Addr: addr, Port: 80, Proto: proto}
			s := model.Server{Frontend: f, Scheduler: model.Scheduler{Name: "rr"}}
			for _, b := range [][]string{{"10.0.0.21", "10.0.0.22"}, {"fd00::21", "fd00::22"}}[i] {
				s.Backends = append(s.Backends, model.Backend{Addr: netip.AddrPortFrom(netip.MustParseAddr(b), 8080), Weight: 1})
			}
			n.servers = append(n.servers, s)
			n.state.Frontends = append(n.state.Frontends, f)
		}
	}
	n.director.Do(n.bringUp)
	return n
}

func (n *network) bringUp() error {
	if _, err := (&host.Sysctls{}).Apply(); err != nil {
		return err
	}
	if changed, err := (&host.Sysctls{}).Apply(); len(changed) != 0 || err != nil {
		return fmt.Errorf("a second time the sysctls changed: %v (error: %w)", changed, err)
	}
	var err error
	if n.table, err = nft.New(); err != nil {
		return err
	}
	if _, err := n.table.Sync(n.t.Context(), n.state); err != nil {
		return err
	}
	if err := n.balance(); err != nil {
		return err
	}
	interfaces, err := netif.New()
	if err != nil {
		return err
	}
	defer interfaces.Close()
	found, err := interfaces.Interfaces()
	if err != nil {
		return err
	}
	var have []model.Interface
	for _, i := range found {
		have = append(have, model.Interface{Name: i.Name, Prefixes: i.Prefixes})
	}
	var bindings []model.Binding
	for _, vip := range n.state.VIPs {
		name, err := plan.Interface(have, vip, nil)
		if err != nil {
			return err
		}
		bindings = append(bindings, model.Binding{Addr: vip, Interface: name})
	}
	if err := interfaces.Refresh(bindings, time.Hour); err != nil {
		return err
	}
	n.announce(bindings)
	return nil
}

// balance makes the servers of the director those of the network.
func (n *network) balance() error {
	balancer, err := ipvs.New(ipvs.Config{})
	if err != nil {
		return err
	}
	defer balancer.Close()
	have, err := balancer.Servers()
	if err != nil {
		return err
	}
	_, err = balancer.Apply(ipvs.Diff(n.servers, have, func(netip.Addr) bool { return true }))
	return err
}

func (n *network) announce(bindings []model.Binding) {
	a := announce.New(announce.Config{
		Allowed: func(netip.Addr) bool { return true },
		OnError: func(b model.Binding, err error) { n.t.Errorf("announce %v: %v", b, err) },
	})
	a.Set(bindings)
	ctx, cancel := context.WithCancel(context.Background())
	n.director.Go(func() { a.Run(ctx) })
	n.t.Cleanup(cancel)
}

func TestKernelOpenPortIsBalancedAndMasqueraded(t *testing.T) {
	n := build(t)
	for i, vip := range vips {
		for _, proto := range []string{"tcp", "udp"} {
			answers := map[string]int{}
			for range 6 {
				name, seen, err := n.client.Ask(proto, clients[i], vip, 80)
				if err != nil {
					t.Fatalf("%s %s: %v", proto, vip, err)
				}
				if seen != directors[i] {
					t.Errorf("%s %s: the backend saw %s, want the director, %s", proto, vip, seen, directors[i])
				}
				answers[name]++
			}
			if answers["b1"] != 3 || answers["b2"] != 3 {
				t.Errorf("%s %s: answers %v, want 3 of each backend", proto, vip, answers)
			}
			if _, _, err := n.director.Ask(proto, "", vip, 80); err != nil {
				t.Errorf("%s %s from the director itself: %v", proto, vip, err)
			}
		}
	}
}

func TestKernelOtherPortsOfAVIPAreClosed(t *testing.T) {
	n := build(t)
	dnat(n)
	for i, vip := range vips {
		for _, proto := range []string{"tcp", "udp"} {
			for _, port := range []int{22, 30080} {
				if _, _, err := n.client.Ask(proto, "", directors[i], port); err != nil {
					t.Errorf("%s port %d of the node itself: %v", proto, port, err)
				}
				if name, _, err := n.client.AskBriefly(proto, "", vip, port); err == nil {
					t.Errorf("%s port %d of VIP %s: %s answered", proto, port, vip, name)
				} else if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
					t.Errorf("%s port %d of VIP %s: %v, want silence", proto, port, vip, err)
				}
			}
		}
		if err := ping(n.client, i == 1, vip); err != nil {
			t.Errorf("ping %s: %v", vip, err)
		}
		if _, _, err := n.director.Ask("tcp", vip, []string{"10.0.0.21", "fd00::21"}[i], 8080); err != nil {
			t.Errorf("a connection of the node's own from VIP %s: %v", vip, err)
		}
	}
}

// TestKernelTranslationsOfOthersSpareVIPs: a NodePort, or a host port, may be the port of a VIP's frontend.
func TestKernelTranslationsOfOthersSpareVIPs(t *testing.T) {
	n := build(t)
	for i, vip := range vips {
		n.director.Do(func() error {
			return rules(fmt.Sprintf(`table inet others {
			chain pre { type nat hook prerouting priority dstnat; fib daddr type local meta l4proto { 6, 17 } th dport 80 dnat %s to %s; }
		}`, []string{"ip", "ip6"}[i], []string{"10.0.0.99:80", "[fd00::99]:80"}[i]))
		})
		for _, proto := range []string{"tcp", "udp"} {
			if _, _, err := n.client.Ask(proto, "", vip, 80); err != nil {
				t.Errorf("%s port 80 of VIP %s: %v", proto, vip, err)
			}
			if name, _, err := n.client.AskBriefly(proto, "", directors[i], 80); err == nil {
				t.Errorf("%s port 80 of the node itself, which is translated to nobody: %s answered", proto, name)
			}
		}
		n.director.Do(func() error { return rules("delete table inet others") })
	}
}

// dnat makes the director answer on NodePort 30080 as kube-proxy does, on every local address.
func dnat(n *network) {
	n.director.Do(func() error {
		return rules(`table inet kube {
			chain pre { type nat hook prerouting priority dstnat;
				fib daddr type local meta l4proto { 6, 17 } th dport 30080 meta nfproto ipv4 dnat ip to 10.0.0.21:8080
				fib daddr type local meta l4proto { 6, 17 } th dport 30080 meta nfproto ipv6 dnat ip6 to [fd00::21]:8080
			}
			chain post { type nat hook postrouting priority srcnat; ct status dnat masquerade; }
		}`)
	})
}

// rules gives nft some.
func rules(script string) error {
	command := exec.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(script)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, out)
	}
	return nil
}

// ping sends an echo request and waits for the reply.
func ping(s *netnstest.Space, ipv6 bool, to string) error {
	return s.Try(func() error {
		network, request := "ip4:icmp", []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0} // with its checksum
		if ipv6 {
			network, request = "ip6:ipv6-icmp", []byte{128, 0, 0, 0, 0, 0, 0, 0} // the kernel computes it
		}
		conn, err := net.Dial(network, to)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write(request); err != nil {
			return err
		}
		reply := make([]byte, 100)
		for {
			// Read would return the IPv4 header too.
			if _, _, err := conn.(*net.IPConn).ReadFrom(reply); err != nil || reply[0] == 0 || reply[0] == 129 {
				return err
			}
		}
	})
}

func TestKernelSourceRangesAreEnforced(t *testing.T) {
	n := build(t)
	for i, friend := range friends {
		prefix, err := netip.MustParseAddr(friend).Prefix([]int{32, 128}[i])
		check(t, err)
		for _, f := range n.state.Frontends {
			if f.Addr.BitLen() == prefix.Bits() && f.Proto == model.TCP {
				n.state.SourceRanges = append(n.state.SourceRanges, model.SourceRange{Frontend: f, Prefix: prefix})
			}
		}
	}
	n.director.Do(func() error { _, err := n.table.Sync(t.Context(), n.state); return err })
	for i, vip := range vips {
		if _, _, err := n.client.Ask("tcp", friends[i], vip, 80); err != nil {
			t.Errorf("%s from %s, which may: %v", vip, friends[i], err)
		}
		if name, _, err := n.client.AskBriefly("tcp", clients[i], vip, 80); err == nil {
			t.Errorf("%s from %s, which may not: %s answered", vip, clients[i], name)
		}
		if _, _, err := n.client.Ask("udp", clients[i], vip, 80); err != nil {
			t.Errorf("%s by UDP, which is not restricted: %v", vip, err)
		}
	}
}

// TestKernelUDPFlowLeavesARemovedBackend: a flow that never pauses must go to another backend when its own is removed, and
// its conntrack entry with it.
func TestKernelUDPFlowLeavesARemovedBackend(t *testing.T) {
	n := build(t)
	for i, vip := range vips {
		n.client.Do(func() error {
			conn, err := net.Dial("udp", net.JoinHostPort(vip, "80"))
			if err != nil {
				return err
			}
			defer conn.Close()
			who := func() string {
				buffer := make([]byte, 100)
				for range 5 { // IPVS drops the packet that shows it that the backend is gone
					_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
					if _, err := conn.Write([]byte("who")); err != nil {
						continue
					}
					if length, err := conn.Read(buffer); err == nil {
						return strings.Fields(string(buffer[:length]))[0]
					}
				}
				return "nobody"
			}
			first := who()
			for j := range n.servers {
				s := &n.servers[j]
				s.Backends = slices.DeleteFunc(slices.Clone(s.Backends), func(b model.Backend) bool {
					return s.Addr == n.state.VIPs[i] && strings.HasSuffix(b.Addr.Addr().String(), "2"+first[1:])
				})
			}
			n.director.Do(n.balance)
			if second := who(); second == first || second == "nobody" {
				t.Errorf("%s: after %s was removed, %s answers", vip, first, second)
			}
			return nil
		})
	}
}
