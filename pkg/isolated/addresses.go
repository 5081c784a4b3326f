package isolated

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Bound returns the VIPs that are answered for, whoever did it, by address. One of which only a part is there, or that is
// answered for on several interfaces, or that is IPv6 and whose fence lapsed, has no interface: it is not as wanted anywhere, and
// Unbind removes all of it. Which of them are ours the caller knows.
func (k *Kernel) Bound() ([]model.Binding, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bound()
}

func (k *Kernel) bound() ([]model.Binding, error) {
	if err := k.rejoin(); err != nil {
		return nil, err
	}
	routed, err := k.routed()
	if err != nil {
		return nil, err
	}
	local, err := k.local()
	if err != nil {
		return nil, err
	}
	proxies, err := k.proxies()
	if err != nil {
		return nil, err
	}
	bound := assemble(routed, local, proxies)
	// A beat that this process did not begin has lapsed, too: the other fence, which is prolonged with it, tells.
	if k.beat.lapsed() && slices.ContainsFunc(bound, isIPv6) {
		fenced, err := k.fenced()
		if err != nil {
			return nil, err
		}
		for i, b := range bound {
			if b.Addr.Is6() && !fenced {
				bound[i].Interface = ""
			}
		}
	}
	return bound, nil
}

// assemble makes bindings of the three parts of each: the host's route, the namespace's, and proxy neighbour entries.
func assemble(routed, local map[netip.Addr]bool, proxies []model.Binding) []model.Binding {
	var bound []model.Binding
	answered := map[netip.Addr]int{}
	for _, proxy := range proxies {
		answered[proxy.Addr]++
	}
	for _, proxy := range proxies {
		if !routed[proxy.Addr] || !local[proxy.Addr] || answered[proxy.Addr] > 1 {
			proxy.Interface = ""
		}
		bound = append(bound, proxy)
	}
	for _, part := range []map[netip.Addr]bool{routed, local} {
		for addr := range part {
			if answered[addr] == 0 {
				answered[addr]++
				bound = append(bound, model.Binding{Addr: addr})
			}
		}
	}
	slices.SortFunc(bound, func(a, b model.Binding) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Interface, b.Interface))
	})
	return slices.Compact(bound)
}

// Bind has VIPs answered for on interfaces of the host, and their packets taken in the namespace, and returns what failed. The
// lifetime, in whole seconds, is that of all VIPs: it counts where the fence lapsed, else the last Refresh does.
func (k *Kernel) Bind(bindings []model.Binding, lifetime time.Duration) map[netip.Addr]error {
	k.mu.Lock()
	defer k.mu.Unlock()
	failed := map[netip.Addr]error{}
	unfenced := k.raise(bindings, lifetime)
	for _, b := range bindings {
		err := unfenced
		if err == nil {
			err = k.bind(b)
		}
		if err != nil {
			failed[b.Addr] = err
		}
	}
	return failed
}

// raise puts up fences that lapsed: that of IPv4 in any case, since it tells a next process of both.
func (k *Kernel) raise(bindings []model.Binding, lifetime time.Duration) error {
	if err := k.rejoin(); err != nil {
		return err
	}
	fenced, err := k.fenced()
	if err == nil && !fenced {
		err = k.fence(lifetime)
	}
	if err == nil && k.beat.lapsed() && slices.ContainsFunc(bindings, isIPv6) {
		err = k.beat.send(lifetime)
	}
	return err
}

func isIPv6(b model.Binding) bool { return b.Addr.Is6() }

func (k *Kernel) bind(b model.Binding) error {
	fail := func(err error) error {
		err = fmt.Errorf("bind %s on %s: %w", b.Addr, b.Interface, err)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w: CAP_NET_ADMIN is missing (add NET_ADMIN to the container's capabilities)", err)
		}
		return err
	}
	lan, err := find(k.host, b.Interface)
	if err == nil && lan == nil {
		err = errors.New("the node has no such interface")
	}
	if err == nil {
		err = k.prepare(b.Interface)
	}
	if err == nil {
		err = k.inside.RouteReplace(k.insideRoute(b.Addr))
	}
	if err == nil {
		err = k.host.RouteReplace(k.hostRoute(b.Addr))
	}
	if err == nil {
		err = k.host.NeighSet(proxy(b.Addr, lan.Attrs().Index))
	}
	if err == nil {
		err = k.forget(b.Addr, lan.Attrs().Index)
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// forget makes the host forget which neighbour had a VIP before: see the Bind of netif. It hears of no other that has an IPv6 address
// for which it answers by proxy.
func (k *Kernel) forget(addr netip.Addr, link int) error {
	neighbour := proxy(addr, link)
	neighbour.Flags = 0
	if err := k.host.NeighDel(neighbour); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget which neighbour had it: %w", err)
	}
	return nil
}

// Refresh gives all VIPs the lifetime anew. The bindings are all that are to live: those that are gone are bound again, and a
// VIP of an earlier speaker that is not among them does not live on by this one's fence.
func (k *Kernel) Refresh(bindings []model.Binding, lifetime time.Duration) error {
	if len(bindings) == 0 {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.rejoin(); err != nil {
		return err
	}
	fenced, err := k.fenced()
	if err != nil {
		return err
	}
	some4 := slices.ContainsFunc(bindings, func(b model.Binding) bool { return b.Addr.Is4() })
	some6 := slices.ContainsFunc(bindings, isIPv6)
	lapsed := some4 && !fenced || some6 && k.beat.lapsed() || k.mended
	if lapsed || !k.swept {
		if err := k.sweep(bindings); err != nil {
			return err
		}
		k.swept = true
	}
	failures := []error{k.fence(lifetime)}
	if some6 {
		failures = append(failures, k.beat.send(lifetime))
	}
	if lapsed && errors.Join(failures...) == nil {
		for _, b := range bindings {
			failures = append(failures, k.bind(b))
		}
		k.mended = errors.Join(failures...) != nil
	}
	return errors.Join(failures...)
}

// sweep ends routes of VIPs that are not among the bindings, and the proxy entries of these.
func (k *Kernel) sweep(bindings []model.Binding) error {
	routed, err := k.routed()
	if err != nil {
		return err
	}
	for _, b := range bindings {
		delete(routed, b.Addr)
	}
	for addr := range routed {
		if err := k.unbind(model.Binding{Addr: addr}); err != nil {
			return err
		}
	}
	return nil
}

// fenced reports whether the address is there that IPv4 routes go with.
func (k *Kernel) fenced() (bool, error) {
	addresses, err := dump(func() ([]netlink.Addr, error) {
		return k.host.AddrList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: k.joined.host}}, netlink.FAMILY_V4)
	})
	if err != nil {
		return false, fmt.Errorf("list the addresses of %s: %w", HostLink, err)
	}
	return slices.ContainsFunc(addresses, func(a netlink.Addr) bool { return a.IP.Equal(Fence.Addr().AsSlice()) }), nil
}

// fence gives that address a lifetime.
func (k *Kernel) fence(lifetime time.Duration) error {
	addr := &netlink.Addr{
		IPNet: ipNet(Fence), LinkIndex: k.joined.host, Scope: unix.RT_SCOPE_LINK, Flags: unix.IFA_F_NOPREFIXROUTE,
		ValidLft: wholeSeconds(lifetime),
	}
	if err := k.host.AddrReplace(nil, addr); err != nil {
		return fmt.Errorf("prolong the lifetime of IPv4 VIPs (address %s on %s): %w", Fence.Addr(), HostLink, err)
	}
	return nil
}

// Unbind ends answering for VIPs on their interfaces, on all if a binding names none, and their routes, and returns what failed. What is
// gone is no error.
func (k *Kernel) Unbind(bindings []model.Binding) map[netip.Addr]error {
	k.mu.Lock()
	defer k.mu.Unlock()
	failed := map[netip.Addr]error{}
	err := k.rejoin()
	for _, b := range bindings {
		if err != nil {
			failed[b.Addr] = err
		} else if err := k.unbind(b); err != nil {
			failed[b.Addr] = err
		}
	}
	return failed
}

func (k *Kernel) unbind(b model.Binding) error {
	indices, err := k.answering(b)
	if err != nil {
		return err
	}
	var failures []error
	for _, index := range indices {
		failures = append(failures, gone(k.host.NeighDel(proxy(b.Addr, index))))
	}
	failures = append(failures, gone(k.host.RouteDel(k.hostRoute(b.Addr))), gone(k.inside.RouteDel(k.insideRoute(b.Addr))))
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("unbind %s: %w", b.Addr, err)
	}
	return nil
}

// answering are the interfaces on which to end answering for a VIP.
func (k *Kernel) answering(b model.Binding) (indices []int, err error) {
	if b.Interface != "" {
		lan, err := find(k.host, b.Interface)
		if err != nil || lan == nil {
			return nil, err // entries go with their interface
		}
		return []int{lan.Attrs().Index}, nil
	}
	neighbours, err := k.neighbours()
	for _, n := range neighbours {
		if n.IP.Equal(b.Addr.AsSlice()) {
			indices = append(indices, n.LinkIndex)
		}
	}
	return indices, err
}

// gone makes a success of removing what is not there.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// hostRoute is the host's way to a VIP. For IPv4 it goes with the fence.
func (k *Kernel) hostRoute(vip netip.Addr) *netlink.Route {
	route := &netlink.Route{LinkIndex: k.joined.host, Dst: single(vip), Protocol: protocol}
	if vip.Is4() {
		route.Gw, route.Src = Inside4.Addr().AsSlice(), Fence.Addr().AsSlice()
	} else {
		route.Gw, route.Src = Inside6.Addr().AsSlice(), Host6.Addr().AsSlice()
	}
	return route
}

// insideRoute makes a VIP local in the namespace, without an address that could be chosen as a source.
func (k *Kernel) insideRoute(vip netip.Addr) *netlink.Route {
	return &netlink.Route{
		LinkIndex: k.joined.loopback, Dst: single(vip), Protocol: protocol, Table: unix.RT_TABLE_LOCAL,
		Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST,
	}
}

func proxy(vip netip.Addr, index int) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: index, IP: vip.AsSlice(), Flags: netlink.NTF_PROXY, State: netlink.NUD_PERMANENT}
}
