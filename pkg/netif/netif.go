// Package netif puts VIPs on interfaces of one network namespace and takes them off, and says which interfaces there are.
//
// It owns the /32 and /128 addresses that the caller calls ours, and the dummy device "fairlead" with all that is on it. It
// never touches an address with a shorter prefix, another device but to bring up those of tunnels, a route or a neighbour
// entry.
//
// It does not promise that a VIP stays on an interface: every address is bound for a lifetime, after which the kernel removes it (within a
// second), so that the VIPs of a speaker that was killed or froze go by themselves. Who wants to keep one refreshes it.
//
// A Kernel acts in the network namespace of the thread that calls New; Watch must run in the same one.
package netif

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/pkg/model"
)

// Interface is a network interface as far as it matters to where a VIP may go.
type Interface struct {
	Name  string
	Index int
	Up    bool // set up, and with a carrier (IFF_UP and IFF_RUNNING)
	MAC   net.HardwareAddr
	// Prefixes are the networks that are on its link: those of its addresses, sorted, without link-local ones and without
	// /32 and /128, which is what a bound VIP has.
	Prefixes []netip.Prefix
}

// Diff returns what to bind and what to unbind so that what the kernel has becomes what is wanted. An address that is not
// wanted is unbound only if it is owned; one that is wanted but stands on another interface is unbound there.
func Diff(want, have []model.Binding, owned func(netip.Addr) bool) (bind, unbind []model.Binding) {
	wanted := make(map[netip.Addr]bool, len(want))
	for _, b := range want {
		wanted[b.Addr] = true
	}
	want, have = sorted(want), sorted(have)
	for len(want) > 0 || len(have) > 0 {
		switch {
		case len(have) == 0 || len(want) > 0 && compare(want[0], have[0]) < 0:
			bind, want = append(bind, want[0]), want[1:]
		case len(want) == 0 || compare(want[0], have[0]) > 0:
			if wanted[have[0].Addr] || owned(have[0].Addr) {
				unbind = append(unbind, have[0])
			}
			have = have[1:]
		default:
			want, have = want[1:], have[1:]
		}
	}
	return bind, unbind
}

func compare(a, b model.Binding) int {
	if order := a.Addr.Compare(b.Addr); order != 0 {
		return order
	}
	return strings.Compare(a.Interface, b.Interface)
}

// sorted returns the bindings by address and interface, without changing the caller's slice.
func sorted(bindings []model.Binding) []model.Binding {
	if slices.IsSortedFunc(bindings, compare) {
		return bindings
	}
	bindings = slices.Clone(bindings)
	slices.SortFunc(bindings, compare)
	return bindings
}
