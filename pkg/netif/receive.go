package netif

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// receiverName is a dummy device of ours, which holds the VIPs that this node serves as a backend. Nobody asks for a neighbour
// there, so that they are not announced (for IPv4 with arp_ignore=1, see package host).
const receiverName = "fairlead"

// Receive makes the VIPs of the receivers those on our dummy device, which is there while it has any, and brings up the tunnel
// devices that unwrap their packets. It returns how many changes it made. A tunnel device is left as it is when it is
// needed no more: others may use it.
func (k *Kernel) Receive(receivers []model.Receiver) (changed int, err error) {
	var want []netip.Addr
	tunnels := map[string]bool{}
	for _, r := range receivers {
		want = append(want, r.Addr)
		if r.Wrapped.IsValid() {
			tunnels[tunnelFor(r.Addr, r.Wrapped)] = true
		}
	}
	slices.SortFunc(want, netip.Addr.Compare)
	want = slices.Compact(want)
	link, err := k.receiver(len(want) > 0)
	if link == nil {
		return 0, err
	}
	if len(want) == 0 {
		if err := k.handle.LinkDel(link); err != nil {
			return 0, fmt.Errorf("delete device %s: %w", receiverName, err)
		}
		return 1, nil
	}
	var failures []error
	for name := range tunnels {
		up, err := k.tunnel(name)
		changed += up
		failures = append(failures, err)
	}
	made, err := k.hold(link, want)
	return changed + made, errors.Join(append(failures, err)...)
}

// receiver returns our dummy device, nil if there is none and none is wanted.
func (k *Kernel) receiver(wanted bool) (netlink.Link, error) {
	link, err := k.link(receiverName)
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return link, err
	}
	if !wanted {
		return nil, nil
	}
	link = &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: receiverName}}
	if err := k.handle.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("add dummy device %s for the VIPs that this node serves as a backend (load module dummy): %w", receiverName, err)
	}
	if link, err = k.link(receiverName); err == nil {
		err = k.handle.LinkSetUp(link)
	}
	return link, err
}

// hold makes addresses those of a device, for good.
func (k *Kernel) hold(link netlink.Link, want []netip.Addr) (changed int, err error) {
	have, err := dump(func() ([]netlink.Addr, error) { return k.handle.AddrList(link, netlink.FAMILY_ALL) })
	if err != nil {
		return 0, fmt.Errorf("list the addresses of %s: %w", receiverName, err)
	}
	var leaving []model.Binding
	there := map[netip.Addr]bool{}
	for _, a := range have {
		p, ok := prefixOf(a.IPNet)
		if !ok || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if _, wanted := slices.BinarySearchFunc(want, p.Addr(), netip.Addr.Compare); wanted {
			there[p.Addr()] = true
			continue
		}
		changed++
		leaving = append(leaving, model.Binding{Addr: p.Addr(), Interface: receiverName})
	}
	failures := slices.Collect(maps.Values(k.Unbind(leaving)))
	for _, vip := range want {
		if there[vip] {
			continue
		}
		addr := address(model.Binding{Addr: vip})
		addr.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
		addr.ValidLft, addr.PreferedLft = math.MaxInt32, 0 // deprecated, as on the holder
		if err := k.handle.AddrReplace(link, addr); err != nil {
			failures = append(failures, fmt.Errorf("add %s to %s: %w", vip, receiverName, err))
			continue
		}
		changed++
	}
	return changed, errors.Join(failures...)
}

// tunnelFor is the device that unwraps packets of a VIP that come to an address: the one of its kind that takes them from
// anywhere, which the kernel makes when its module is loaded.
func tunnelFor(vip, outer netip.Addr) string {
	switch {
	case outer.Is6():
		return "ip6tnl0"
	case vip.Is4():
		return "tunl0"
	default:
		return "sit0"
	}
}

// tunnel brings a tunnel device up. To add one loads its module.
func (k *Kernel) tunnel(name string) (changed int, err error) {
	link, err := k.link(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		attrs := netlink.LinkAttrs{Name: name}
		module := "ipip"
		var add netlink.Link = &netlink.Iptun{LinkAttrs: attrs}
		switch name {
		case "ip6tnl0":
			add, module = &netlink.Ip6tnl{LinkAttrs: attrs}, "ip6_tunnel"
		case "sit0":
			add, module = &netlink.Sittun{LinkAttrs: attrs}, "sit"
		}
		if err := k.handle.LinkAdd(add); err != nil && !errors.Is(err, unix.EEXIST) {
			return 0, fmt.Errorf("device %s, which unwraps tunnelled packets: %w: run modprobe %s on the node", name, err, module)
		}
		link, err = k.link(name)
	}
	if err != nil {
		return 0, fmt.Errorf("device %s, which unwraps tunnelled packets: %w", name, err)
	}
	if link.Attrs().RawFlags&unix.IFF_UP == 0 {
		if err := k.handle.LinkSetUp(link); err != nil {
			return 0, fmt.Errorf("bring up device %s, which unwraps tunnelled packets: %w", name, err)
		}
		changed++
	}
	numbered, err := k.number(link)
	return changed + numbered, err
}

// placeholder is the address for hosts that need one and have none (RFC 7600).
var placeholder = netip.AddrFrom4([4]byte{192, 0, 0, 8})

// number gives a tunnel's device an IPv4 address, of this host's own scope, if it has none: the kernel's loose reverse path
// filter takes packets from one without an address only if all filters are off (fib_frontend.c, last_resort).
func (k *Kernel) number(link netlink.Link) (changed int, err error) {
	have, err := dump(func() ([]netlink.Addr, error) { return k.handle.AddrList(link, netlink.FAMILY_V4) })
	if err != nil || len(have) > 0 {
		return 0, err
	}
	addr := address(model.Binding{Addr: placeholder})
	addr.Scope, addr.Flags = unix.RT_SCOPE_HOST, unix.IFA_F_NOPREFIXROUTE
	if err := k.handle.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("add %s to %s: %w", placeholder, link.Attrs().Name, err)
	}
	return 1, nil
}
