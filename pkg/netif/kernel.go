package netif

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Kernel is the interfaces of a network namespace. Its methods may be called from several goroutines.
type Kernel struct {
	handle *netlink.Handle // serialises the requests on its one socket
	lookup sync.Mutex      // LinkByName notes in the handle, unguarded, what an old kernel cannot do

	writing sync.Mutex        // held while addresses are written
	writes  *nl.NetlinkSocket // for them: the handle sends one message at a time
}

// callTimeout ends a request whose answer was lost. A request takes microseconds.
const callTimeout = 5 * time.Second

// New opens the interfaces of the calling thread's network namespace.
func New() (*Kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket for interfaces and addresses: %w", err)
	}
	if err := handle.SetSocketTimeout(callTimeout); err != nil {
		handle.Close()
		return nil, fmt.Errorf("set the timeout of a netlink socket: %w", err)
	}
	writes, err := newWrites()
	if err != nil {
		handle.Close()
		return nil, err
	}
	return &Kernel{handle: handle, writes: writes}, nil
}

// Close closes the sockets.
func (k *Kernel) Close() {
	k.handle.Close()
	k.writes.Close()
}

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

func (k *Kernel) links() ([]netlink.Link, error) {
	links, err := dump(k.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list the interfaces: %w", err)
	}
	return links, nil
}

func (k *Kernel) addresses() ([]netlink.Addr, error) {
	addresses, err := dump(func() ([]netlink.Addr, error) { return k.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the addresses: %w", err)
	}
	return addresses, nil
}

// Interfaces returns the interfaces of the namespace but the loopback one and our own, by name.
func (k *Kernel) Interfaces() ([]Interface, error) {
	links, err := k.links()
	if err != nil {
		return nil, err
	}
	addresses, err := k.addresses()
	if err != nil {
		return nil, err
	}
	prefixes := map[int][]netip.Prefix{}
	for _, a := range addresses {
		if p, ok := onLink(a); ok && !slices.Contains(prefixes[a.LinkIndex], p) {
			prefixes[a.LinkIndex] = append(prefixes[a.LinkIndex], p)
		}
	}
	interfaces := make([]Interface, 0, len(links))
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagLoopback != 0 || a.Name == receiverName {
			continue
		}
		on := prefixes[a.Index]
		slices.SortFunc(on, netip.Prefix.Compare)
		up := a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0
		interfaces = append(interfaces, Interface{Name: a.Name, Index: a.Index, Up: up, MAC: a.HardwareAddr, Prefixes: on})
	}
	slices.SortFunc(interfaces, func(a, b Interface) int { return strings.Compare(a.Name, b.Name) })
	return interfaces, nil
}

// onLink returns the network that an address says is on its link. Addresses with a lifetime count: those of DHCP and of
// router advertisements have one.
func onLink(a netlink.Addr) (netip.Prefix, bool) {
	ipNet := a.IPNet
	if a.Peer != nil {
		ipNet = a.Peer
	}
	p, ok := prefixOf(ipNet)
	if !ok || p.IsSingleIP() || p.Addr().IsLinkLocalUnicast() || a.Flags&unix.IFA_F_DADFAILED != 0 {
		return netip.Prefix{}, false
	}
	return p.Masked(), true
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr, bits), ok
}

// Bound returns every /32 and /128 address of the namespace that is not link-local, loopback or on our own device, whoever put
// it there, by address. Which of them are ours the caller knows. One that does not answer because duplicate address detection
// has it in doubt, or failed, has no interface: it is not as wanted anywhere, and Unbind removes it. What Bind binds never is
// in that state; an address that somebody else put there before is.
func (k *Kernel) Bound() ([]model.Binding, error) {
	links, err := k.links()
	if err != nil {
		return nil, err
	}
	addresses, err := k.addresses()
	if err != nil {
		return nil, err
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var bound []model.Binding
	for _, a := range addresses {
		p, ok := prefixOf(a.IPNet)
		name, known := names[a.LinkIndex]
		if !ok || !known || name == receiverName || p.Addr() == placeholder || a.Peer != nil || !p.IsSingleIP() || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		if doubtful(a) {
			name = ""
		}
		bound = append(bound, model.Binding{Addr: p.Addr(), Interface: name})
	}
	return sorted(bound), nil
}

// doubtful reports whether an address is tentative, or was found to be another host's (RFC 4862, section 5.4.5), in which case
// the kernel leaves it tentative for good.
func doubtful(a netlink.Addr) bool { return a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 }

func (k *Kernel) link(name string) (netlink.Link, error) {
	k.lookup.Lock()
	defer k.lookup.Unlock()
	return k.handle.LinkByName(name)
}
