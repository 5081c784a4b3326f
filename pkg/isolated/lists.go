package isolated

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// protocol marks our routes (rtm_protocol in rtnetlink(7)): above what the kernel and routing daemons use.
const protocol netlink.RouteProtocol = 214

// dumpAttempts bounds how often a dump is taken again because the table changed meanwhile.
const dumpAttempts = 10

// dump lists until the list is not torn by a change (NLM_F_DUMP_INTR).
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range dumpAttempts {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, err
}

// rejoin mends the link if somebody removed it.
func (k *Kernel) rejoin() error {
	host, err := find(k.host, HostLink)
	if err != nil {
		return err
	}
	if host != nil && host.Attrs().Index == k.joined.host && host.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	k.mended = true
	return k.join()
}

// routed are the addresses with a route of the host's into the namespace.
func (k *Kernel) routed() (map[netip.Addr]bool, error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return k.host.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: k.joined.host, Protocol: protocol},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("list the routes through %s: %w", HostLink, err)
	}
	return destinations(routes), nil
}

// local are the addresses that we made the namespace's own.
func (k *Kernel) local() (map[netip.Addr]bool, error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return k.inside.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: protocol},
			netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("list the local addresses of network namespace %s: %w", k.space.path, err)
	}
	return destinations(routes), nil
}

func destinations(routes []netlink.Route) map[netip.Addr]bool {
	found := map[netip.Addr]bool{}
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		if addr, ok := netip.AddrFromSlice(route.Dst.IP); ok {
			if ones, bits := route.Dst.Mask.Size(); ones == bits {
				found[addr.Unmap()] = true
			}
		}
	}
	return found
}

// neighbours are the host's proxy neighbour entries, whoever made them.
func (k *Kernel) neighbours() ([]netlink.Neigh, error) {
	var all []netlink.Neigh
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		some, err := dump(func() ([]netlink.Neigh, error) { return k.host.NeighProxyList(0, family) })
		if err != nil {
			return nil, fmt.Errorf("list the proxy neighbour entries: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// proxies are those entries with the names of their interfaces.
func (k *Kernel) proxies() ([]model.Binding, error) {
	neighbours, err := k.neighbours()
	if err != nil || len(neighbours) == 0 {
		return nil, err
	}
	links, err := dump(k.host.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var bindings []model.Binding
	for _, n := range neighbours {
		if addr, ok := netip.AddrFromSlice(n.IP); ok {
			bindings = append(bindings, model.Binding{Addr: addr.Unmap(), Interface: names[n.LinkIndex]})
		}
	}
	return bindings, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// single is an address with all its bits as prefix.
func single(addr netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(addr, addr.BitLen())) }
