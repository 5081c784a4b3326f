package netif

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Bind puts VIPs on their interfaces for a lifetime, or sets the lifetime of those that are there, and returns what failed. The
// addresses are deprecated (preferred_lft 0), so that none is ever chosen as a source address; they skip duplicate address
// detection, which would keep them from answering for a second; and they add no route for their prefix. The kernel counts
// lifetimes in whole seconds: the lifetime is rounded up, to 1 s at the least. It costs two writes for some hundreds of them.
//
// Who had a VIP before is forgotten: while an IPv6 address is here the kernel hears of no other host that has it (ndisc_recv_na),
// and once it has left, would send to the one of then for a second.
func (k *Kernel) Bind(bindings []model.Binding, lifetime time.Duration) map[netip.Addr]error {
	there, missing := k.place(bindings)
	failed := k.write(there, putting(lifetime))
	there = slices.DeleteFunc(there, func(a placed) bool { return failed[a.Addr] != nil })
	maps.Copy(failed, k.write(there, forgetting))
	for _, b := range bindings {
		if err := missing[b.Interface]; err != nil {
			failed[b.Addr] = fmt.Errorf("bind %s on %s: %w", b.Addr, b.Interface, err)
		}
	}
	return failed
}

// Refresh is Bind, and returns all errors joined; that an interface is missing it says once.
func (k *Kernel) Refresh(bindings []model.Binding, lifetime time.Duration) error {
	there, missing := k.place(bindings)
	failures := slices.Collect(maps.Values(k.write(there, putting(lifetime))))
	for name, err := range missing {
		failures = append(failures, fmt.Errorf("refresh the addresses on %s: %w", name, err))
	}
	return errors.Join(failures...)
}

// place looks up each interface once, and returns what is wrong with it by its name.
func (k *Kernel) place(bindings []model.Binding) (there []placed, missing map[string]error) {
	indices := map[string]int{}
	missing = map[string]error{}
	for _, b := range bindings {
		if missing[b.Interface] != nil {
			continue
		}
		if indices[b.Interface] == 0 {
			link, err := k.link(b.Interface)
			if err != nil {
				missing[b.Interface] = absent(err)
				continue
			}
			indices[b.Interface] = link.Attrs().Index
		}
		there = append(there, placed{b, indices[b.Interface]})
	}
	return there, missing
}

// Unbind takes VIPs off their interfaces, those without one off where they do not answer (see Bound), and returns what failed. One that
// is gone, or whose interface is gone, is no error. It costs a write for some hundreds of them.
func (k *Kernel) Unbind(bindings []model.Binding) map[netip.Addr]error {
	var named []model.Binding
	failed := map[netip.Addr]error{}
	for _, b := range bindings {
		if b.Interface != "" {
			named = append(named, b)
		} else if err := k.unbindDoubtful(b); err != nil {
			failed[b.Addr] = err
		}
	}
	there, missing := k.place(named)
	maps.Copy(failed, k.write(there, taking))
	for _, b := range named {
		if err := missing[b.Interface]; err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
			failed[b.Addr] = taking.failure(b, err)
		}
	}
	return failed
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

func absent(err error) error {
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("the node has no such interface: %w", err)
	}
	return err
}
