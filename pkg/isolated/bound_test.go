package isolated

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

func TestOnlyAWholeVIPIsBoundOnAnInterface(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	set := func(addresses ...netip.Addr) map[netip.Addr]bool {
		out := map[netip.Addr]bool{}
		for _, addr := range addresses {
			out[addr] = true
		}
		return out
	}
	on := func(addr netip.Addr, name string) model.Binding { return model.Binding{Addr: addr, Interface: name} }
	for name, test := range map[string]struct {
		routed, local map[netip.Addr]bool
		proxies, want []model.Binding
	}{
		"nothing": {},
		"all parts of both": {
			set(a, b), set(a, b), []model.Binding{on(b, "eth0"), on(a, "eth1")}, []model.Binding{on(a, "eth1"), on(b, "eth0")},
		},
		"no route, as when the fence fell": {set(), set(a), []model.Binding{on(a, "eth0")}, []model.Binding{on(a, "")}},
		"not local inside":                 {set(a), set(), []model.Binding{on(a, "eth0")}, []model.Binding{on(a, "")}},
		"nobody is answered":               {set(a), set(a), nil, []model.Binding{on(a, "")}},
		"only inside":                      {set(), set(b), nil, []model.Binding{on(b, "")}},
		"two interfaces answer":            {set(a), set(a), []model.Binding{on(a, "eth0"), on(a, "eth1")}, []model.Binding{on(a, "")}},
		"somebody else's":                  {set(a), set(a), []model.Binding{on(a, "eth0"), on(b, "eth0")}, []model.Binding{on(a, "eth0"), on(b, "")}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := assemble(test.routed, test.local, test.proxies); !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestWholeSeconds(t *testing.T) {
	for d, want := range map[time.Duration]int{
		0: 1, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, 3 * time.Second: 3, time.Hour: BeatMax,
	} {
		if got := wholeSeconds(d); got != want {
			t.Errorf("%s are %d s, want %d", d, got, want)
		}
	}
}

// TestTheLinkIsKnownToThePlan: source ranges and what keeps clients apart name the host's addresses by the model's networks.
func TestTheLinkIsKnownToThePlan(t *testing.T) {
	for _, addr := range []netip.Addr{Host4.Addr(), Inside4.Addr(), Fence.Addr(), Host6.Addr(), Inside6.Addr()} {
		if !slices.ContainsFunc(model.IsolatedHosts, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			t.Errorf("%s is in none of %v", addr, model.IsolatedHosts)
		}
	}
}
