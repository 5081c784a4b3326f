package machine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Configure makes links, addresses and routes on a host, beside those it has.
func (m *Machine) Configure(host string, network Network) error {
	s, err := m.space(host)
	if err != nil {
		return err
	}
	err = s.do(func() error {
		if err := linkUp("lo"); err != nil {
			return err
		}
		for _, sysctl := range network.Sysctls {
			if err := setSysctl(sysctl); err != nil {
				return err
			}
		}
		return nil
	})
	for _, link := range network.Links {
		if err == nil {
			err = m.addLink(s, link)
		}
	}
	if err == nil {
		err = s.do(func() error { return address(network) })
	}
	if err != nil {
		return fmt.Errorf("network of host %s: %w", host, err)
	}
	return nil
}

func setSysctl(sysctl Sysctl) error {
	path := filepath.Join("/proc/sys", sysctl.Path)
	err := os.WriteFile(path, []byte(sysctl.Value), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("set sysctl %s to %s: %w", sysctl.Path, sysctl.Value, err)
	}
	// A kernel without the feature has no such setting to be wrong.
	return nil
}

// addLink makes a link on s and, for a veth, brings up its other end.
func (m *Machine) addLink(s *space, link Link) error {
	var mac net.HardwareAddr
	if link.MAC != "" {
		var err error
		if mac, err = net.ParseMAC(link.MAC); err != nil {
			return fmt.Errorf("link %s: %w", link.Name, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = link.Name, mac
	var peer *space
	var add netlink.Link
	switch link.Kind {
	case Existing:
	case Bridge:
		off := false
		add = &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
	case Tap:
		add = &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_DEFAULTS}
	case Veth:
		var err error
		if peer, err = m.space(link.Peer.Host); err != nil {
			return fmt.Errorf("link %s: %w", link.Name, err)
		}
		add = &netlink.Veth{LinkAttrs: attrs, PeerName: link.Peer.Name, PeerNamespace: netlink.NsFd(int(peer.ns))}
	default:
		return fmt.Errorf("link %s is of kind %q, which is none", link.Name, link.Kind)
	}
	err := s.do(func() error {
		if add != nil {
			if err := netlink.LinkAdd(add); err != nil {
				return fmt.Errorf("add link %s: %w", link.Name, err)
			}
		}
		return linkUp(link.Name)
	})
	if err != nil || peer == nil {
		return err
	}
	return peer.do(func() error { return attach(link.Peer) })
}

// attach puts a veth's end into its bridge, if it has one, and brings it up. Without one it is a node's end of a link to a pod, say:
// while its link-local address is not known to be nobody else's, for a second, it would ask for no neighbour. A real pod takes
// longer to become ready, one of the lab does not.
func attach(peer Peer) error {
	if peer.Bridge != "" {
		port, err := netlink.LinkByName(peer.Name)
		if err != nil {
			return fmt.Errorf("find link %s: %w", peer.Name, err)
		}
		bridge, err := netlink.LinkByName(peer.Bridge)
		if err != nil {
			return fmt.Errorf("find bridge %s: %w", peer.Bridge, err)
		}
		if err := netlink.LinkSetMaster(port, bridge); err != nil {
			return fmt.Errorf("put link %s into bridge %s: %w", peer.Name, peer.Bridge, err)
		}
	} else if err := setSysctl(Sysctl{Path: "net/ipv6/conf/" + peer.Name + "/accept_dad", Value: "0"}); err != nil {
		return err
	}
	return linkUp(peer.Name)
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring link %s up: %w", name, err)
	}
	return nil
}

func address(network Network) error {
	for _, a := range network.Addresses {
		link, err := netlink.LinkByName(a.Link)
		if err != nil {
			return fmt.Errorf("find link %s: %w", a.Link, err)
		}
		addr := &netlink.Addr{IPNet: ipNet(a.Prefix)}
		if a.Prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s to link %s: %w", a.Prefix, a.Link, err)
		}
	}
	for _, r := range network.Routes {
		route := &netlink.Route{Dst: ipNet(r.To), Scope: netlink.SCOPE_UNIVERSE}
		if r.Via.IsValid() {
			route.Gw = r.Via.AsSlice()
		} else if r.To.Addr().Is4() {
			route.Scope = netlink.SCOPE_LINK
		}
		if r.Link != "" {
			link, err := netlink.LinkByName(r.Link)
			if err != nil {
				return fmt.Errorf("find link %s: %w", r.Link, err)
			}
			route.LinkIndex = link.Attrs().Index
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("add route to %s: %w", r.To, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Unplug takes every link of a host down, so that nothing leaves it any more. It stops at nothing: an error is what went
// wrong last.
func (m *Machine) Unplug(host string) error {
	s, err := m.space(host)
	if err != nil {
		return err
	}
	return s.do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return fmt.Errorf("list links of host %s: %w", host, err)
		}
		var last error
		for _, link := range links {
			if err := netlink.LinkSetDown(link); err != nil {
				last = fmt.Errorf("take link %s of host %s down: %w", link.Attrs().Name, host, err)
			}
		}
		return last
	})
}

// deleteVeths deletes the veths of the calling thread's namespace, and so their other ends.
func deleteVeths() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, link := range links {
		if link.Type() != "veth" {
			continue
		}
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("delete link %s: %w", link.Attrs().Name, err)
		}
	}
	return nil
}
