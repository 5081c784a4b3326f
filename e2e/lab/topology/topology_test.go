package topology

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab/machine"
)

var dual = Families{V4: true, V6: true}

func TestParseFamilies(t *testing.T) {
	for text, want := range map[string]Families{"ipv4": {V4: true}, "ipv6": {V6: true}, "dual": dual} {
		got, err := ParseFamilies(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	if _, err := ParseFamilies("ipx"); err == nil {
		t.Error("ipx is taken for a family")
	}
}

func TestAddressesOfNodes(t *testing.T) {
	for _, test := range []struct {
		families Families
		got      []netip.Prefix
		want     string
	}{
		{dual, dual.NodeAddresses(1), "10.87.0.1/16,fd87::1/64"},
		{dual, dual.NodeAddresses(12), "10.87.0.12/16,fd87::12/64"},
		{dual, dual.PodCIDRs(3), "10.244.3.0/24,fd00:244:3::/64"},
		{dual, dual.PodAddresses(3, 1), "10.244.3.2/32,fd00:244:3::2/128"},
		{dual, Families{V6: true}.NodeAddresses(2), "fd87::2/64"},
		{dual, Families{V4: true}.API(), "172.30.0.1/30"},
	} {
		if got := Join(test.got); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestNoAddressOfThePlanIsUsedTwice(t *testing.T) {
	seen := map[netip.Addr]string{}
	add := func(owner string, addresses []machine.Address) {
		for _, a := range addresses {
			if other, ok := seen[a.Prefix.Addr()]; ok {
				t.Fatalf("%s and %s both have %s", owner, other, a.Prefix.Addr())
			}
			seen[a.Prefix.Addr()] = owner
		}
	}
	for i := 1; i <= MaxNodes; i++ {
		add(Node(i), dual.NodeHost(i, nil).Network.Addresses)
		for _, k := range []int{1, 2, MaxPods} {
			add("a pod of "+Node(i), dual.PodHost("pod", i, k).Network.Addresses)
		}
		for _, gateway := range dual.podGateways(i) {
			add("gateway of "+Node(i), []machine.Address{{Prefix: gateway}})
		}
	}
	for _, host := range []machine.Host{dual.ClientHost(), dual.RouterHost(), dual.FarHost()} {
		add(host.Name, host.Network.Addresses)
	}
	for k := range MaxReplicas {
		add("controller", dual.ControllerHost("c", k).Network.Addresses)
		add("its gateway", dual.ControllerPeerNetwork(k).Addresses)
	}
	add("fabric", dual.FabricNetwork().Addresses)
	add("far side of the router", dual.RouterFarNetwork().Addresses)
	add("uplink", dual.UplinkNetwork("x").Addresses)
	add("control plane", dual.ControlPlaneNetwork(machine.Link{Name: "x"}).Addresses)
}

func TestLabOfOneFamilyHasOnlyItsAddresses(t *testing.T) {
	only := Families{V6: true}
	hosts := []machine.Host{
		only.NodeHost(1, []int{1, 2, 3}), only.ClientHost(), only.RouterHost(), only.FarHost(), only.PodHost("p", 1, 1), only.ControllerHost("c", 0),
		{Network: only.FabricNetwork()}, {Network: only.UplinkNetwork("u")}, {Network: only.PodNodeNetwork(1, 1)},
		{Network: only.ControlPlaneNetwork(machine.Link{Name: "x"})}, {Network: only.RouterFarNetwork()},
	}
	for _, host := range hosts {
		for _, a := range host.Network.Addresses {
			if a.Prefix.Addr().Is4() {
				t.Errorf("host %q has %s", host.Name, a.Prefix)
			}
		}
		for _, r := range host.Network.Routes {
			if r.To.Addr().Is4() || r.Via.Is4() {
				t.Errorf("host %q has a route to %s by %s", host.Name, r.To, r.Via)
			}
		}
	}
}

func TestOnlyNodesKnowPodNetworks(t *testing.T) {
	pods := func(host machine.Host) (routes []string) {
		for _, r := range host.Network.Routes {
			for _, all := range dual.ClusterCIDRs() {
				if all.Contains(r.To.Addr()) {
					routes = append(routes, r.To.String()+" by "+r.Via.String())
				}
			}
		}
		return routes
	}
	want := []string{
		"10.244.1.0/24 by 10.87.0.1", "fd00:244:1::/64 by fd87::1", "10.244.3.0/24 by 10.87.0.3", "fd00:244:3::/64 by fd87::3",
	}
	if got := pods(dual.NodeHost(2, []int{1, 2, 3})); !slices.Equal(got, want) {
		t.Errorf("n2 has %v, want %v", got, want)
	}
	for _, host := range []machine.Host{dual.ClientHost(), dual.RouterHost(), dual.FarHost(), {Network: dual.FabricNetwork()}} {
		if got := pods(host); got != nil {
			t.Errorf("%s has %v", host.Name, got)
		}
	}
}

func TestNamesOfInterfacesFitTheKernel(t *testing.T) {
	const limit = 15 // IFNAMSIZ - 1
	names := []string{Port(Node(MaxNodes)), Port(ControlPlane[:7]), podLink(MaxPods), "ctl49"}
	for _, host := range []string{Client, Router} {
		names = append(names, Port(host))
	}
	for _, name := range names {
		if len(name) > limit {
			t.Errorf("%s is longer than %d", name, limit)
		}
	}
}
