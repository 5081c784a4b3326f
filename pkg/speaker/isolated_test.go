package speaker_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/host"
	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/isolated"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
	"github.com/fairlead/fairlead/pkg/speaker"
)

// The addresses of the test's network, of both families.
var (
	vips     = []string{"10.0.0.100", "fd00::100"}
	holders  = []string{"10.0.0.1", "fd00::1"}
	clients  = []string{"10.0.0.10", "fd00::10"}
	pods     = []string{"10.244.1.2", "fd00:244:1::2"}
	gateways = []string{"10.244.1.1", "fd00:244:1::1"}
	remotes  = []string{"10.0.0.21", "fd00::21"}
)

// cluster is a holder whose datapath is isolated, with a pod, on a LAN with a client, another node and a remote backend.
type cluster struct {
	t                                    *testing.T
	lan                                  *netnstest.LAN
	client, holder, other, remote, local *netnstest.Space
	path                                 string
	datapath                             *speaker.Datapath
	joint                                *isolated.Kernel
	state                                model.NodeState
	right                                time.Duration
	seen                                 chan announce.Sighting // by the holder
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build makes the network with a VIP of each family on the holder, whose backends are the remote one and the pod.
func build(t *testing.T) *cluster {
	t.Helper()
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	c := &cluster{t: t, lan: lan, right: time.Hour, path: filepath.Join(t.TempDir(), "netns"), seen: make(chan announce.Sighting, 100)}
	c.client = lan.Host("10.0.0.10/24", "fd00::10/64")
	c.holder = lan.Host("10.0.0.1/24", "fd00::1/64")
	c.other = lan.Host("10.0.0.2/24", "fd00::2/64")
	c.remote = lan.Host("10.0.0.21/24", "fd00::21/64")
	c.local = c.holder.Behind("pod0", gateways, "10.244.1.2/24", "fd00:244:1::2/64")
	c.remote.Serve(8080, "remote")
	c.local.Serve(8080, "local")
	c.holder.Serve(22, "sshd")
	for i, vip := range vips {
		addr := netip.MustParseAddr(vip)
		c.state.VIPs = append(c.state.VIPs, addr)
		c.state.Bindings = append(c.state.Bindings, model.Binding{Addr: addr, Interface: "eth0"})
		for _, proto := range []model.Protocol{model.TCP, model.UDP} {
			server := model.Server{Frontend: model.Frontend{Addr: addr, Port: 80, Proto: proto}, Scheduler: model.Scheduler{Name: "rr"}}
			for _, backend := range []string{remotes[i], pods[i]} {
				server.Backends = append(server.Backends, model.Backend{Addr: netip.AddrPortFrom(netip.MustParseAddr(backend), 8080), Weight: 1})
			}
			c.state.Servers = append(c.state.Servers, server)
		}
	}
	t.Cleanup(func() {
		c.holder.Do(func() error { _, err := isolated.Remove(c.path, c.state.VIPs); return err })
	})
	c.open()
	c.apply()
	return c
}

// open starts a speaker's datapath in the namespace that is there, or a new one.
func (c *cluster) open() {
	c.t.Helper()
	c.holder.Do(func() error {
		space, err := isolated.Open(c.path)
		if err != nil {
			return err
		}
		c.t.Cleanup(space.Close)
		hosts := &host.Sysctls{Side: host.Outside, Link: isolated.HostLink}
		if c.joint, err = isolated.New(space, hosts.Proxy); err != nil {
			return err
		}
		c.t.Cleanup(c.joint.Close)
		parts := speaker.Isolated{
			Inside: space.Do, Sysctls: &host.Sysctls{Side: host.Inside, Link: isolated.InsideLink},
			OutsideSysctls: hosts, VIPs: c.joint, Link: isolated.HostLink,
		}
		if parts.OutsideTable, err = nft.NewOutside(nft.OutsideConfig{
			Link: isolated.HostLink, Inside4: isolated.Inside4.Addr(), Inside6: isolated.Inside6.Addr(),
			Beat: isolated.Beat, BeatMax: isolated.BeatMax, Mark: isolated.Mark,
		}); err != nil {
			return err
		}
		if err := space.Do(func() (err error) { parts.Table, err = nft.New(); return err }); err != nil {
			return err
		}
		servers, err := ipvs.New(ipvs.Config{Namespace: c.path})
		if err != nil {
			return err
		}
		c.t.Cleanup(servers.Close)
		interfaces, err := netif.New()
		if err != nil {
			return err
		}
		c.t.Cleanup(interfaces.Close)
		parts.Servers, parts.Interfaces = servers, interfaces
		announcer := announce.New(announce.Config{
			Allowed: func(netip.Addr) bool { return true },
			Seen:    func(sighting announce.Sighting) { c.seen <- sighting },
		})
		c.holder.Go(func() { announcer.Run(c.t.Context()) })
		c.datapath = speaker.NewDatapath(parts.Kernel(announcer), func() time.Duration { return c.right })
		return nil
	})
}

func (c *cluster) apply() (out speaker.Outcome) {
	c.t.Helper()
	c.holder.Do(func() (err error) { out, err = c.datapath.Apply(context.Background(), c.state, true); return err })
	return out
}

// live refreshes the VIPs until the test ends or the returned function is called: a speaker that lives.
func (c *cluster) live() (die func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan struct{})
	c.holder.Go(func() {
		defer close(ended)
		for ctx.Err() == nil {
			if _, _, err := c.datapath.Refresh(); err != nil {
				c.t.Errorf("refresh: %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	})
	return func() { cancel(); <-ended }
}

// run runs a program on a host.
func run(t *testing.T, s *netnstest.Space, stdin string, argv ...string) string {
	t.Helper()
	var out []byte
	s.Do(func() (err error) {
		command := exec.Command(argv[0], argv[1:]...)
		command.Stdin = strings.NewReader(stdin)
		if out, err = command.CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
		return err
	})
	return string(out)
}

// everybody asks the VIPs from everywhere, and wants an answer of both backends.
func (c *cluster) everybody() {
	c.t.Helper()
	for from, space := range map[string]*netnstest.Space{"the client": c.client, "the holder": c.holder, "the pod": c.local, "another node": c.other} {
		for _, vip := range vips {
			for _, network := range []string{"tcp", "udp"} {
				by := map[string]int{}
				for range 4 {
					name, _, err := space.Ask(network, "", vip, 80)
					if err != nil {
						c.t.Errorf("%s asks %s by %s: %v", from, vip, network, err)
					}
					by[name]++
				}
				if by["local"] != 2 || by["remote"] != 2 {
					c.t.Errorf("%s asked %s 4 times by %s: answers %v", from, vip, network, by)
				}
			}
		}
	}
}

func TestKernelIsolatedVIPsAnswerEverybody(t *testing.T) {
	c := build(t)
	defer c.live()()
	c.everybody()
	run(t, c.holder, "", "ipvsadm", "-C")
	c.everybody()
	for i, vip := range vips {
		if _, _, err := c.client.Ask("tcp", "", holders[i], 22); err != nil {
			t.Errorf("the holder's own port: %v", err)
		}
		if name, _, err := c.client.AskBriefly("tcp", "", vip, 22); err == nil {
			t.Errorf("port 22 of %s is answered by %s", vip, name)
		}
		for range 2 {
			name, seen, err := c.client.Ask("tcp", "", vip, 80)
			check(t, err)
			if want := map[string]string{"remote": holders[i], "local": gateways[i]}[name]; seen != want {
				t.Errorf("%s: the %s backend saw %s, want the node, %s", vip, name, seen, want)
			}
		}
	}
}

func TestKernelIsolatedDatapathIsLeftAloneWhenItIsAsWanted(t *testing.T) {
	c := build(t)
	defer c.live()()
	c.datapath.Distrust()
	if out := c.apply(); out.Writes != 0 || len(out.Bound) != 2 {
		t.Errorf("the same state again: %d writes, bound %v", out.Writes, out.Bound)
	}
	c.open() // the next speaker
	if out := c.apply(); out.Writes != 0 || len(out.Bound) != 2 {
		t.Errorf("another speaker: %d writes, bound %v", out.Writes, out.Bound)
	}
	c.everybody()
	c.state.Bindings = nil
	c.apply()
	c.holder.Do(func() error {
		bound, err := c.joint.Bound()
		if len(bound) != 0 {
			t.Errorf("withdrawn, and bound are %v", bound)
		}
		return err
	})
	c.client.Forget()
	for _, vip := range vips {
		if name, _, err := c.client.AskBriefly("tcp", "", vip, 80); err == nil {
			t.Errorf("withdrawn, and %s is answered by %s", vip, name)
		}
	}
	c.state = model.NodeState{}
	c.apply()
	for _, command := range []string{"ip neigh show proxy", "ip route show dev fl-h", "nft list table inet fairlead-outside"} {
		if out := run(t, c.holder, "", "sh", "-c", command); strings.Contains(out, vips[0]) || strings.Contains(out, vips[1]) {
			t.Errorf("nothing is wanted, and %s shows:\n%s", command, out)
		}
	}
}

// TestKernelIsolatedDatapathUsesItsOwnNodePort: kube-proxy's translation of NodePorts is in PREROUTING, and so is that of a
// Service's address which is not told to be a proxy's (ipMode), which is not for VIPs.
func TestKernelIsolatedDatapathUsesItsOwnNodePort(t *testing.T) {
	c := build(t)
	defer c.live()()
	run(t, c.holder, `table inet kube {
		chain pre { type nat hook prerouting priority dstnat;
			ip daddr `+vips[0]+` meta l4proto { 6, 17 } th dport 80 dnat ip to 10.0.0.99:80
			ip6 daddr `+vips[1]+` meta l4proto { 6, 17 } th dport 80 dnat ip6 to [fd00::99]:80
			fib daddr type local meta l4proto { 6, 17 } th dport 30080 meta nfproto ipv4 dnat ip to 10.0.0.21:8080
			fib daddr type local meta l4proto { 6, 17 } th dport 30080 meta nfproto ipv6 dnat ip6 to [fd00::21]:8080
		}
		chain post { type nat hook postrouting priority srcnat; ct status dnat masquerade; }
	}`, "nft", "-f", "-")
	c.state.Servers = slices.Clone(c.state.Servers)
	for i := range c.state.Servers {
		s := &c.state.Servers[i]
		own := netip.MustParseAddr(holders[slices.Index(vips, s.Addr.String())])
		s.Backends = []model.Backend{{Addr: netip.AddrPortFrom(own, 30080), Weight: 1}}
	}
	c.apply()
	for _, vip := range vips {
		for _, space := range []*netnstest.Space{c.client, c.holder, c.local} {
			if name, _, err := space.Ask("tcp", "", vip, 80); name != "remote" {
				t.Errorf("%s by the holder's own NodePort: %q answers, error %v", vip, name, err)
			}
		}
		if name, _, err := c.client.AskBriefly("tcp", "", vip, 30080); err == nil {
			t.Errorf("the NodePort itself answers on %s: %s", vip, name)
		}
	}
}

// TestKernelIsolatedDatapathKeepsClients: a local pod sees the client, and its answers come back through the datapath.
func TestKernelIsolatedDatapathKeepsClients(t *testing.T) {
	c := build(t)
	defer c.live()()
	check(t, c.holder.Try(func() error { return netnstest.Sysctl("net/ipv4/conf/all/rp_filter", "1") }))
	c.state.Servers = slices.Clone(c.state.Servers)
	for i := range c.state.Servers {
		s := &c.state.Servers[i]
		s.Backends = s.Backends[1:]
		c.state.Translations = append(c.state.Translations,
			model.Translation{VIP: s.Addr, Proto: s.Proto, Backend: s.Backends[0].Addr, Source: model.FromClient})
	}
	c.state.Inside = append(slices.Clone(model.IsolatedHosts), netip.MustParsePrefix("10.244.1.2/32"), netip.MustParsePrefix("fd00:244:1::2/128"))
	slices.SortFunc(c.state.Inside, netip.Prefix.Compare)
	c.apply()
	for i, vip := range vips {
		for _, network := range []string{"tcp", "udp"} {
			if _, seen, err := c.client.Ask(network, "", vip, 80); seen != clients[i] {
				t.Errorf("%s by %s: the pod saw %q, want the client, %s (error %v)", vip, network, seen, clients[i], err)
			}
			for _, space := range []*netnstest.Space{c.holder, c.local} {
				if _, _, err := space.Ask(network, "", vip, 80); err != nil {
					t.Errorf("%s by %s from the node or its pod: %v", vip, network, err)
				}
			}
		}
	}
}

// TestKernelIsolatedVIPsAreFenced: without a speaker that lives they are answered no more, whoever asks anew.
func TestKernelIsolatedVIPsAreFenced(t *testing.T) {
	c := build(t)
	c.right = 2 * time.Second
	die := c.live()
	for range 10 { // well beyond one lifetime
		for _, vip := range vips {
			c.client.Forget()
			if _, _, err := c.client.Ask("tcp", "", vip, 80); err != nil {
				t.Errorf("while the speaker lives %s: %v", vip, err)
			}
		}
		time.Sleep(300 * time.Millisecond)
	}
	die()
	died := time.Now()
	for _, vip := range vips {
		netnstest.Eventually(t, "the end of answers for "+vip, 10*time.Second, func() bool {
			c.client.Forget()
			_, _, err := c.client.AskBriefly("tcp", "", vip, 80)
			return err != nil
		})
		t.Logf("%s: no answer %.1f s after the speaker died with a right of 2 s", vip, time.Since(died).Seconds())
	}
	bound := func() (all []model.Binding) {
		c.holder.Do(func() (err error) { all, err = c.joint.Bound(); return err })
		return all
	}
	if have := bound(); slices.Contains(have, c.state.Bindings[0]) {
		t.Errorf("bound after the fence fell: %v", have)
	}
	// A speaker that comes back to less brings back no more than that.
	c.state.Bindings = c.state.Bindings[1:]
	c.apply()
	defer c.live()()
	c.client.Forget()
	netnstest.Eventually(t, "answers for "+vips[1], 10*time.Second, func() bool {
		_, _, err := c.client.Ask("tcp", "", vips[1], 80)
		return err == nil
	})
	if name, _, err := c.client.AskBriefly("tcp", "", vips[0], 80); err == nil {
		t.Errorf("%s is held no more and answered by %s", vips[0], name)
	}
}

// TestKernelANewHolderWinsFromAnIsolatedOne: its announcement overrides what the neighbours know, and while the old one's fence
// stands nobody learns the old one anew for longer.
func TestKernelANewHolderWinsFromAnIsolatedOne(t *testing.T) {
	c := build(t)
	for _, vip := range vips {
		if _, _, err := c.client.Ask("tcp", "", vip, 80); err != nil {
			t.Fatalf("%s: %v", vip, err)
		}
	}
	var mac net.HardwareAddr
	c.other.Do(func() (err error) {
		if mac, err = netnstest.MAC("eth0", nil); err != nil {
			return err
		}
		interfaces, err := netif.New()
		if err != nil {
			return err
		}
		defer interfaces.Close()
		return interfaces.Refresh(c.state.Bindings, time.Hour)
	})
	announcer := announce.New(announce.Config{Allowed: func(netip.Addr) bool { return true }})
	c.other.Go(func() { announcer.Run(t.Context()) })
	announcer.Set(c.state.Bindings)
	for _, vip := range vips {
		netnstest.Eventually(t, "the new holder's announcement of "+vip, 10*time.Second, func() bool {
			return c.client.Neighbour(vip).String() == mac.String()
		})
	}
}
