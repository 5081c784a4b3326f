package netnstest

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LAN is an Ethernet: a bridge in a namespace of its own.
type LAN struct {
	space *Space
	ports int
}

// NewLAN makes a LAN without hosts.
func NewLAN(t testing.TB) *LAN {
	t.Helper()
	l := &LAN{space: New(t)}
	l.space.Do(func() error {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "lan"}}
		if err := netlink.LinkAdd(bridge); err != nil {
			return fmt.Errorf("add a bridge: %w", err)
		}
		return netlink.LinkSetUp(bridge)
	})
	return l
}

// Host makes a namespace with an interface eth0 on the LAN that has the given addresses ("10.0.0.1/24"), usable at once.
func (l *LAN) Host(addresses ...string) *Space {
	s := New(l.space.t)
	l.ports++
	port := fmt.Sprintf("port%d", l.ports)
	l.space.Do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.handle)}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add a veth pair: %w", err)
		}
		bridge, err := netlink.LinkByName("lan")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetMaster(veth, bridge); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	})
	s.Do(func() error { return setUp("eth0") })
	s.Address("eth0", addresses...)
	return s
}

// Behind makes a namespace with an interface eth0 that has the given addresses, linked to a host that is its gateway, as a pod
// is to its node. The host has the same link's other end under a name, with the addresses of gateways ("10.1.0.1").
func (s *Space) Behind(name string, gateways []string, addresses ...string) *Space {
	pod := New(s.t)
	s.Do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(pod.handle)}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add a veth pair: %w", err)
		}
		// While its link-local address is tentative the host asks for nobody in the name of others.
		if err := Sysctl("net/ipv6/conf/"+name+"/accept_dad", "0"); err != nil {
			return err
		}
		return netlink.LinkSetUp(veth)
	})
	pod.Do(func() error { return setUp("eth0") })
	pod.Address("eth0", addresses...)
	for i, address := range addresses {
		_, network, err := net.ParseCIDR(address)
		if err != nil {
			s.t.Fatal(err)
		}
		ones, _ := network.Mask.Size()
		s.Address(name, fmt.Sprintf("%s/%d", gateways[i], ones))
		pod.Gateway(gateways[i])
	}
	return pod
}

// Gateway adds a default route.
func (s *Space) Gateway(ip string) {
	s.t.Helper()
	s.Do(func() error {
		gateway := net.ParseIP(ip)
		anywhere := &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		if gateway.To4() != nil {
			anywhere = &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: anywhere, Gw: gateway}); err != nil {
			return fmt.Errorf("add a default route by %s: %w", ip, err)
		}
		return nil
	})
}

// Forget empties the host's neighbour table: whom it asks next it has to look for.
func (s *Space) Forget() {
	s.t.Helper()
	s.Do(func() error {
		neighbours, err := netlink.NeighList(0, netlink.FAMILY_ALL)
		for _, n := range neighbours {
			if n.State&(netlink.NUD_NOARP|netlink.NUD_PERMANENT) == 0 {
				_ = netlink.NeighDel(&n) // it may have gone by itself
			}
		}
		return err
	})
}

// Address adds permanent addresses, without duplicate address detection.
func (s *Space) Address(name string, addresses ...string) {
	s.t.Helper()
	s.Do(func() error { return Address(name, addresses...) })
}

// Dummy adds a dummy interface, up, with addresses.
func (s *Space) Dummy(name string, addresses ...string) {
	s.t.Helper()
	s.Do(func() error { return Dummy(name, addresses...) })
}

// Address is that of Space, in the calling thread's namespace.
func Address(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add address %s to %s: %w", a, name, err)
		}
	}
	return nil
}

// Detect adds a permanent IPv6 address as hosts do: with duplicate address detection. In the calling thread's namespace.
func Detect(name, address string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return netlink.AddrAdd(link, addr)
}

// Dummy is that of Space, in the calling thread's namespace.
func Dummy(name string, addresses ...string) error {
	if err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return fmt.Errorf("add dummy interface %s: %w", name, err)
	}
	if err := setUp(name); err != nil {
		return err
	}
	return Address(name, addresses...)
}

// Link sets an interface up or down, in the calling thread's namespace.
func Link(name string, up bool) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	if up {
		return netlink.LinkSetUp(link)
	}
	return netlink.LinkSetDown(link)
}

// MAC changes or, if mac is nil, returns an interface's hardware address, in the calling thread's namespace.
func MAC(name string, mac net.HardwareAddr) (net.HardwareAddr, error) {
	link, err := netlink.LinkByName(name)
	if err != nil || mac == nil {
		if err != nil {
			return nil, err
		}
		return link.Attrs().HardwareAddr, nil
	}
	return mac, netlink.LinkSetHardwareAddr(link, mac)
}

// Sysctl writes a sysctl ("net/ipv4/ip_forward") of the calling thread's namespace.
func Sysctl(path, value string) error {
	return os.WriteFile("/proc/sys/"+path, []byte(value), 0)
}

// Lifetimes returns the flags, preferred_lft and valid_lft (seconds) of an address, false if no interface has it, in the
// calling thread's namespace.
func Lifetimes(addr string) (flags, preferred, valid int, found bool, err error) {
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return 0, 0, 0, false, err
	}
	for _, a := range addresses {
		if a.IPNet.String() == addr {
			return a.Flags, a.PreferedLft, a.ValidLft, true, nil
		}
	}
	return 0, 0, 0, false, nil
}

// Neighbour returns the hardware address that the host has for an IP address, nil if none.
func (s *Space) Neighbour(ip string) (mac net.HardwareAddr) {
	s.t.Helper()
	s.Do(func() error {
		neighbours, err := netlink.NeighList(0, netlink.FAMILY_ALL)
		for _, n := range neighbours {
			if n.IP.Equal(net.ParseIP(ip)) {
				mac = n.HardwareAddr
			}
		}
		return err
	})
	return mac
}

// Learn gives the host a stale neighbour entry, as if it had talked to the IP address before.
func (s *Space) Learn(ip string, mac net.HardwareAddr) {
	s.t.Helper()
	s.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_STALE, IP: net.ParseIP(ip), HardwareAddr: mac,
		})
	})
}

// Eventually waits until check is true, for at most the time given, and fails the test if it does not become so.
func Eventually(t testing.TB, what string, within time.Duration, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen within %s", strings.TrimSpace(what), within)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Flows returns the destination and the replying source of every conntrack entry, as "[fd00::100]:80 [fd00::21]:8080", in the
// calling thread's namespace.
func Flows() (flows []string, err error) {
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		entries, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			return nil, fmt.Errorf("list the conntrack entries: %w", err)
		}
		for _, e := range entries {
			flows = append(flows, fmt.Sprintf("%s %s",
				net.JoinHostPort(e.Forward.DstIP.String(), fmt.Sprint(e.Forward.DstPort)),
				net.JoinHostPort(e.Reverse.SrcIP.String(), fmt.Sprint(e.Reverse.SrcPort))))
		}
	}
	return flows, nil
}
