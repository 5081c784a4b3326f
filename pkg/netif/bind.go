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
	return k.write([]placed{{b, link.Attrs().Index}}, lifetime)
}

// Refresh gives every binding the lifetime anew, binding those that are gone. It goes on past one that fails and returns
// all errors joined. It costs a write for some hundreds of them.
func (k *Kernel) Refresh(bindings []model.Binding, lifetime time.Duration) error {
	var failures []error
	indices := map[string]int{} // of interfaces, looked up once for all bindings; 0: it failed
	there := make([]placed, 0, len(bindings))
	for _, b := range bindings {
		index, known := indices[b.Interface]
		if !known {
			link, err := k.link(b.Interface)
			if err == nil {
				index = link.Attrs().Index
			} else {
				failures = append(failures, fmt.Errorf("refresh the addresses on %s: %w", b.Interface, missing(err)))
			}
			indices[b.Interface] = index
		}
		if index != 0 {
			there = append(there, placed{b, index})
		}
	}
	return errors.Join(append(failures, k.write(there, lifetime))...)
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

func missing(err error) error {
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("the node has no such interface: %w", err)
	}
	return err
}
