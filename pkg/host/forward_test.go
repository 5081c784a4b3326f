package host_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/host"
	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
)

// receive makes a backend one that has VIPs itself, with its closed ports.
func receive(t *testing.T, backend *netnstest.Space, receivers []model.Receiver, state nft.State) {
	backend.Do(func() error {
		table, err := nft.New()
		if err != nil {
			return err
		}
		if _, err := table.Sync(t.Context(), state); err != nil {
			return err
		}
		interfaces, err := netif.New()
		if err != nil {
			return err
		}
		defer interfaces.Close()
		if _, err := interfaces.Receive(receivers); err != nil {
			return err
		}
		if again, err := interfaces.Receive(receivers); again != 0 || err != nil {
			return fmt.Errorf("a second time %d changes, error %w", again, err)
		}
		if bound, err := interfaces.Bound(); len(bound) != 0 || err != nil {
			return fmt.Errorf("a backend has bound %v, error %w", bound, err)
		}
		_, err = (&host.Sysctls{}).Receive()
		return err
	})
}

// TestKernelClientsAreSeenByBackendsThatHaveTheVIP asks through each way of forwarding that leaves packets as they are.
func TestKernelClientsAreSeenByBackendsThatHaveTheVIP(t *testing.T) {
	netnstest.Require(t)
	for name, test := range map[string]struct {
		vip        string
		forwarding model.Forwarding
		backends   []string // addresses of the two backends
	}{
		"direct IPv4":           {vips[0], model.Direct, []string{"10.0.0.21", "10.0.0.22"}},
		"direct IPv6":           {vips[1], model.Direct, []string{"fd00::21", "fd00::22"}},
		"tunnel IPv4":           {vips[0], model.Tunnel, []string{"10.0.0.21", "10.0.0.22"}},
		"tunnel IPv6":           {vips[1], model.Tunnel, []string{"fd00::21", "fd00::22"}},
		"tunnel IPv6 over IPv4": {vips[1], model.Tunnel, []string{"10.0.0.21", "10.0.0.22"}},
	} {
		t.Run(name, func(t *testing.T) {
			lan := netnstest.NewLAN(t)
			n := &network{t: t, client: lan.Host("10.0.0.10/24", "fd00::10/64"), director: lan.Host("10.0.0.1/24", "fd00::1/64")}
			vip := netip.MustParseAddr(test.vip)
			f := model.Frontend{Addr: vip, Port: 80, Proto: model.TCP}
			n.state = nft.State{VIPs: []netip.Addr{vip}, Frontends: []model.Frontend{f}}
			server := model.Server{Frontend: f, Scheduler: model.Scheduler{Name: "rr"}}
			for i, text := range test.backends {
				addr := netip.MustParseAddr(text)
				backend := lan.Host(fmt.Sprintf("10.0.0.2%d/24", i+1), fmt.Sprintf("fd00::2%d/64", i+1))
				if backend.Serve([]int{80, 8081}[i], fmt.Sprintf("b%d", i+1)); i == 1 {
					backend.Do(func() error { return hostPort(vip, 80, 8081) })
				}
				backend.Serve(22, "sshd")
				receiver, state := model.Receiver{Frontend: f}, n.state
				state.Received = []model.Frontend{f}
				if test.forwarding == model.Tunnel {
					receiver.Wrapped, state.Tunnelled = addr, []model.Frontend{f}
				}
				receive(t, backend, []model.Receiver{receiver}, state)
				server.Backends = append(server.Backends, model.Backend{Addr: netip.AddrPortFrom(addr, 80), Weight: 1, Forwarding: test.forwarding})
			}
			n.servers = []model.Server{server}
			n.director.Do(n.bringUp)
			client := clients[0]
			if vip.Is6() {
				client = clients[1]
			}
			n.await(client, test.vip)
			answers := map[string]int{}
			for range 6 {
				name, seen, err := n.client.Ask("tcp", client, test.vip, 80)
				if err != nil {
					t.Fatal(err)
				}
				if seen != client {
					t.Errorf("the backend saw %s, want the client, %s", seen, client)
				}
				answers[name]++
			}
			if answers["b1"] != 3 || answers["b2"] != 3 {
				t.Errorf("answers %v, want 3 of each backend", answers)
			}
			if name, _, err := n.client.AskBriefly("tcp", client, test.vip, 22); err == nil {
				t.Errorf("port 22 of the VIP: %s answered", name)
			}
		})
	}
}

// await waits until both backends of a VIP have answered: the kernel makes a new IPv6 address local in the background, and
// hosts look for their neighbours.
func (n *network) await(client, vip string) {
	answered := map[string]bool{}
	netnstest.Eventually(n.t, vip+" answers", 30*time.Second, func() bool {
		if name, _, err := n.client.AskBriefly("tcp", client, vip, 80); err == nil { // Eventually asks again
			answered[name] = true
		}
		return len(answered) == 2
	})
}

// TestKernelNodeLevelBackendsSeeTheVIP: and what the director itself asks comes back to it.
func TestKernelNodeLevelBackendsSeeTheVIP(t *testing.T) {
	n := build(t)
	for _, s := range n.servers {
		for _, b := range s.Backends {
			n.state.Translations = append(n.state.Translations, model.Translation{VIP: s.Addr, Proto: s.Proto, Backend: b.Addr, Source: model.FromVIP})
		}
	}
	n.director.Do(func() error { _, err := n.table.Sync(t.Context(), n.state); return err })
	for i, vip := range vips {
		n.await(clients[i], vip)
		for _, proto := range []string{"tcp", "udp"} {
			if _, seen, err := n.client.Ask(proto, "", vip, 80); err != nil || seen != vip {
				t.Errorf("%s %s: the backend saw %s, error %v", proto, vip, seen, err)
			}
			if _, seen, err := n.director.Ask(proto, "", vip, 80); err != nil || seen != directors[i] {
				t.Errorf("%s %s from the director: the backend saw %s, error %v", proto, vip, seen, err)
			}
		}
	}
}

// TestKernelLocalBackendsSeeTheClient: their answers come by the director, as those of its own pods do. A client that is inside
// is translated.
func TestKernelLocalBackendsSeeTheClient(t *testing.T) {
	n := build(t)
	for _, s := range n.servers {
		for _, b := range s.Backends {
			n.state.Translations = append(n.state.Translations, model.Translation{VIP: s.Addr, Proto: s.Proto, Backend: b.Addr, Source: model.FromClient})
		}
	}
	for i, friend := range friends {
		n.state.Inside = append(n.state.Inside, netip.PrefixFrom(netip.MustParseAddr(friend), []int{32, 128}[i]))
	}
	n.director.Do(func() error { _, err := n.table.Sync(t.Context(), n.state); return err })
	for _, backend := range n.backends {
		backend.Do(func() error {
			// The director tells them of the shorter way to the client, as a node does not tell its own pods.
			for _, key := range []string{"ipv4/conf/all", "ipv4/conf/eth0", "ipv6/conf/eth0"} {
				if err := netnstest.Sysctl("net/"+key+"/accept_redirects", "0"); err != nil {
					return err
				}
			}
			for i, client := range clients {
				if out, err := exec.Command("ip", "route", "add", client, "via", directors[i]).CombinedOutput(); err != nil {
					return fmt.Errorf("ip route: %w: %s", err, out)
				}
			}
			return nil
		})
	}
	for i, vip := range vips {
		n.await(clients[i], vip)
		for _, proto := range []string{"tcp", "udp"} {
			for from, want := range map[string]string{clients[i]: clients[i], friends[i]: directors[i]} {
				if _, seen, err := n.client.Ask(proto, from, vip, 80); err != nil || seen != want {
					t.Errorf("%s %s from %s: the backend saw %s, want %s; error %v", proto, vip, from, seen, want, err)
				}
			}
		}
	}
}

// hostPort has the second backend serve what comes to one of its ports on another one, as the CNI plugin portmap does.
func hostPort(vip netip.Addr, port, to int) error {
	family, addr := "ip", "10.0.0.22"
	if vip.Is6() {
		family, addr = "ip6", "[fd00::22]"
	}
	return rules(fmt.Sprintf("table inet others {\nchain pre {\ntype nat hook prerouting priority dstnat\n"+
		"fib daddr type local tcp dport %d dnat %s to %s:%d\n}\n}\n", port, family, addr, to))
}
