package isolated

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Present reports whether the calling thread's network namespace, the host's, has anything of isolated placement but its table
// of nftables.
func Present(path string) (bool, error) {
	there, err := Exists(path)
	if there || err != nil {
		return there, err
	}
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return false, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer handle.Close()
	link, err := find(handle, HostLink)
	return link != nil, err
}

// ErrStays says that all is removed but the namespace itself, which by then nothing leads to.
var ErrStays = errors.New("the isolated datapath's network namespace stays, cut off")

// Remove takes away what isolated placement left but its table of nftables: proxy neighbour entries of the VIPs that are ours,
// the link with its routes, the routing rules, the namespace with all that is in it. It returns a line for each thing removed, and goes on past
// an error.
func Remove(path string, ours []netip.Addr) (removed []string, err error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket: %w", err)
	}
	defer handle.Close()
	k := &Kernel{host: handle}
	neighbours, err := k.neighbours()
	failures := []error{err}
	for _, n := range neighbours {
		addr, ok := netip.AddrFromSlice(n.IP)
		if !ok || !slices.Contains(ours, addr.Unmap()) {
			continue
		}
		if err := gone(handle.NeighDel(proxy(addr.Unmap(), n.LinkIndex))); err != nil {
			failures = append(failures, fmt.Errorf("remove the proxy neighbour entry of %s: %w", addr, err))
			continue
		}
		removed = append(removed, "proxy neighbour entry of "+addr.Unmap().String())
	}
	link, err := find(handle, HostLink)
	if link != nil {
		if err = gone(handle.LinkDel(link)); err == nil {
			removed = append(removed, "link "+HostLink+" with its routes")
		} else {
			err = fmt.Errorf("remove link %s: %w", HostLink, err)
		}
	}
	failures = append(failures, err)
	for _, is6 := range []bool{false, true} {
		if err := gone(handle.RuleDel(rule(is6))); err != nil && !noIPv6(err) {
			failures = append(failures, fmt.Errorf("remove the routing rule of mark %#x: %w", Mark, err))
		}
	}
	if err := errors.Join(failures...); err != nil {
		return removed, err
	}
	there, err := Exists(path)
	if err == nil {
		err = unmount(path)
	}
	if err != nil {
		return removed, fmt.Errorf("%w: %w", ErrStays, err)
	}
	if there {
		removed = append(removed, "network namespace "+path)
	}
	return removed, nil
}
