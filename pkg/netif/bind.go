package netif

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Bind puts a VIP on its interface for a lifetime, or sets the lifetime of one that is there. The address is deprecated
// (preferred_lft 0), so that it is never chosen as a source address; it skips duplicate address detection, which would
// keep it from answering for a second; and it adds no route for its prefix. The kernel counts lifetimes in whole seconds:
// the lifetime is rounded up, to 1 s at the least.
func (k *Kernel) Bind(b model.Binding, lifetime time.Duration) error {
	link, err := k.link(b.Interface)
	if err != nil {
		return fmt.Errorf("bind %s on %s: %w", b.Addr, b.Interface, missing(err))
	}
	return k.replace(b, link, lifetime)
}

// Refresh gives every binding the lifetime anew, binding those that are gone. It goes on past one that fails and returns
// all errors joined.
func (k *Kernel) Refresh(bindings []model.Binding, lifetime time.Duration) error {
	if len(bindings) == 0 {
		return nil
	}
	var failures []error
	links := map[string]netlink.Link{} // looked up once for all bindings
	failed := map[string]bool{}
	for _, b := range bindings {
		if failed[b.Interface] {
			continue
		}
		if links[b.Interface] == nil {
			link, err := k.link(b.Interface)
			if err != nil {
				failures = append(failures, fmt.Errorf("refresh the addresses on %s: %w", b.Interface, missing(err)))
				failed[b.Interface] = true
				continue
			}
			links[b.Interface] = link
		}
		if err := k.replace(b, links[b.Interface], lifetime); err != nil {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func (k *Kernel) replace(b model.Binding, link netlink.Link, lifetime time.Duration) error {
	addr := address(b)
	addr.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
	// The library sends preferred_lft 0 only beside a valid_lft above 0, which is all that is ever asked for here.
	addr.ValidLft, addr.PreferedLft = seconds(lifetime), 0
	err := k.handle.AddrReplace(link, addr)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("bind %s on %s: %w", b.Addr, b.Interface, err)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: CAP_NET_ADMIN is missing (add NET_ADMIN to the container's capabilities)", err)
	case b.Addr.Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)):
		return fmt.Errorf("%w: IPv6 is disabled there: sysctl net.ipv6.conf.%s.disable_ipv6=0", err, b.Interface)
	default:
		return err
	}
}

// Unbind takes a VIP off its interface; without one, off those where it does not answer (see Bound). One that is gone, or
// whose interface is gone, is no error.
func (k *Kernel) Unbind(b model.Binding) error {
	if b.Interface == "" {
		return k.unbindDoubtful(b)
	}
	link, err := k.link(b.Interface)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = k.handle.AddrDel(link, address(b))
	}
	if err == nil || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("unbind %s from %s: %w", b.Addr, b.Interface, err)
}

func (k *Kernel) unbindDoubtful(b model.Binding) error {
	addresses, err := k.addresses()
	if err != nil {
		return err
	}
	var failures []error
	for _, a := range addresses {
		if p, ok := prefixOf(a.IPNet); !ok || !p.IsSingleIP() || p.Addr() != b.Addr || !doubtful(a) {
			continue
		}
		err := k.handle.AddrDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: a.LinkIndex}}, address(b))
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			failures = append(failures, fmt.Errorf("unbind %s, which duplicate address detection keeps from answering: %w", b.Addr, err))
		}
	}
	return errors.Join(failures...)
}

// address is the VIP with all its bits as prefix.
func address(b model.Binding) *netlink.Addr {
	bits := b.Addr.BitLen()
	return &netlink.Addr{IPNet: &net.IPNet{IP: b.Addr.AsSlice(), Mask: net.CIDRMask(bits, bits)}}
}

// seconds rounds up, to 1 at the least.
func seconds(d time.Duration) int {
	return max(1, int((d+time.Second-1)/time.Second))
}

func missing(err error) error {
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("the node has no such interface: %w", err)
	}
	return err
}
