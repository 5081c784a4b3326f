package isolated

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Kernel is the link between a host and its namespace with the VIPs that are reached by it. Its methods may be called from
// several goroutines; one works at a time.
type Kernel struct {
	space   *Space
	prepare func(name string) error

	mu           sync.Mutex
	host, inside *netlink.Handle
	beat         *beat
	joined       link
	swept        bool // what an earlier speaker left is known not to live on our fence
	mended       bool // the link was made anew since the last Refresh, and routes are gone
}

// link is the two ends by their indices, and the loopback inside.
type link struct{ host, inside, loopback int }

// callTimeout ends a request whose answer was lost. A request takes microseconds.
const callTimeout = 5 * time.Second

// New joins the calling thread's network namespace, the host's, with a space. prepare is called with the name of an interface
// before VIPs are answered for on it.
func New(space *Space, prepare func(name string) error) (*Kernel, error) {
	k := &Kernel{space: space, prepare: prepare, beat: &beat{}}
	var err error
	if k.host, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open a netlink socket for routes and neighbours: %w", err)
	}
	k.inside, err = netlink.NewHandleAt(netns.NsHandle(space.file.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		k.Close()
		return nil, fmt.Errorf("open a netlink socket in network namespace %s: %w", space.path, err)
	}
	for _, handle := range []*netlink.Handle{k.host, k.inside} {
		if err := handle.SetSocketTimeout(callTimeout); err != nil {
			k.Close()
			return nil, fmt.Errorf("set the timeout of a netlink socket: %w", err)
		}
	}
	if err := k.join(); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// Close closes the sockets. What is in the kernel stays.
func (k *Kernel) Close() {
	k.beat.close()
	for _, handle := range []*netlink.Handle{k.host, k.inside} {
		if handle != nil {
			handle.Close()
		}
	}
}

// linkMTU is the largest a veth takes: what limits packets are the interfaces behind it.
const linkMTU = 65535

// join makes the link between the namespaces unless it is there, and brings it into line.
func (k *Kernel) join() error {
	host, inside, err := k.ends()
	if err != nil {
		return err
	}
	if host == nil {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: HostLink, MTU: linkMTU}, PeerName: InsideLink, PeerMTU: linkMTU,
			PeerNamespace: netlink.NsFd(k.space.file.Fd()),
		}
		if err := k.host.LinkAdd(veth); err != nil {
			return fmt.Errorf("add link %s into network namespace %s: %w", HostLink, k.space.path, err)
		}
		if host, inside, err = k.ends(); err != nil {
			return err
		}
		if host == nil {
			return fmt.Errorf("link %s vanished as it was made", HostLink)
		}
	}
	loopback, err := k.inside.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo in network namespace %s: %w", k.space.path, err)
	}
	k.joined = link{host: host.Attrs().Index, inside: inside.Attrs().Index, loopback: loopback.Attrs().Index}
	if err := errors.Join(up(k.inside, loopback), up(k.inside, inside), up(k.host, host)); err != nil {
		return err
	}
	if err := k.address(host, inside); err != nil {
		return err
	}
	return k.leadBack()
}

// ends finds both ends of the link. Ends that do not belong together are removed; then there are none.
func (k *Kernel) ends() (host, inside netlink.Link, err error) {
	host, err = find(k.host, HostLink)
	if err != nil {
		return nil, nil, err
	}
	if inside, err = find(k.inside, InsideLink); err != nil {
		return nil, nil, err
	}
	if host != nil && inside != nil && host.Attrs().ParentIndex == inside.Attrs().Index &&
		inside.Attrs().ParentIndex == host.Attrs().Index {
		return host, inside, nil
	}
	if host != nil {
		if err := k.host.LinkDel(host); err != nil {
			return nil, nil, fmt.Errorf("remove link %s, whose other end is not %s in network namespace %s: %w",
				HostLink, InsideLink, k.space.path, err)
		}
	}
	if inside != nil {
		// Its other end may have been the one that was just removed.
		if err := k.inside.LinkDel(inside); err != nil && !errors.Is(err, unix.ENODEV) {
			return nil, nil, fmt.Errorf("remove link %s, whose other end is not %s: %w", InsideLink, HostLink, err)
		}
	}
	return nil, nil, nil
}

// find returns nil for a link that is not there.
func find(handle *netlink.Handle, name string) (netlink.Link, error) {
	found, err := handle.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	return found, nil
}

func up(handle *netlink.Handle, link netlink.Link) error {
	if link.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring link %s up: %w", link.Attrs().Name, err)
	}
	return nil
}

// address gives the ends their addresses, and the namespace its way out.
func (k *Kernel) address(host, inside netlink.Link) error {
	addresses := []struct {
		handle *netlink.Handle
		link   netlink.Link
		addr   *netlink.Addr
	}{
		{k.host, host, &netlink.Addr{IPNet: ipNet(Host4)}},
		{k.inside, inside, &netlink.Addr{IPNet: ipNet(Inside4)}},
		{k.host, host, &netlink.Addr{IPNet: ipNet(Host6), Flags: unix.IFA_F_NODAD}},
		{k.inside, inside, &netlink.Addr{IPNet: ipNet(Inside6), Flags: unix.IFA_F_NODAD}},
	}
	for _, a := range addresses {
		if err := a.handle.AddrReplace(a.link, a.addr); serious(err, a.addr.IP) {
			return fmt.Errorf("add address %s to link %s: %w", a.addr.IPNet, a.link.Attrs().Name, err)
		}
	}
	if err := errors.Join(introduce(k.host, host, inside, Inside4, Inside6), introduce(k.inside, inside, host, Host4, Host6)); err != nil {
		return err
	}
	for _, gateway := range []net.IP{Host4.Addr().AsSlice(), Host6.Addr().AsSlice()} {
		err := k.inside.RouteReplace(&netlink.Route{LinkIndex: inside.Attrs().Index, Gw: gateway, Dst: anywhere(gateway)})
		if serious(err, gateway) {
			return fmt.Errorf("route what leaves network namespace %s to %s: %w", k.space.path, gateway, err)
		}
	}
	return nil
}

// introduce tells one end of the other for good: nobody needs to be asked, not even while a new link's addresses are tentative.
func introduce(handle *netlink.Handle, link, peer netlink.Link, addresses ...netip.Prefix) error {
	for _, a := range addresses {
		err := handle.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, IP: a.Addr().AsSlice(), HardwareAddr: peer.Attrs().HardwareAddr, State: netlink.NUD_PERMANENT,
		})
		if serious(err, a.Addr().AsSlice()) {
			return fmt.Errorf("tell link %s of its other end: %w", link.Attrs().Name, err)
		}
	}
	return nil
}

// leadBack routes what bears our mark into the namespace.
func (k *Kernel) leadBack() error {
	for _, gateway := range []net.IP{Inside4.Addr().AsSlice(), Inside6.Addr().AsSlice()} {
		err := k.host.RouteReplace(&netlink.Route{
			LinkIndex: k.joined.host, Gw: gateway, Dst: anywhere(gateway), Table: MarkTable, Protocol: protocol,
		})
		if err == nil {
			err = k.host.RuleAdd(rule(gateway.To4() == nil))
		}
		if serious(err, gateway) && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("lead answers with mark %#x to %s: %w", Mark, gateway, err)
		}
	}
	return nil
}

func rule(is6 bool) *netlink.Rule {
	rule := netlink.NewRule()
	rule.Family = netlink.FAMILY_V4
	if is6 {
		rule.Family = netlink.FAMILY_V6
	}
	mask := uint32(Mark)
	rule.Mark, rule.Mask, rule.Table, rule.Priority = Mark, &mask, MarkTable, markPriority
	return rule
}

// serious tells an error apart from the want of IPv6, which leaves IPv4.
func serious(err error, addr net.IP) bool { return err != nil && (addr.To4() != nil || !noIPv6(err)) }

// noIPv6 reports whether an error of adding an address or a route means that IPv6 is off.
func noIPv6(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) ||
		errors.Is(err, unix.ENETUNREACH)
}

func anywhere(family net.IP) *net.IPNet {
	if family.To4() != nil {
		return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}
