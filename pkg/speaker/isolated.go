package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
)

// Isolated is a datapath in a network namespace of its own, with what joins it to the host: see package isolated. As a Kernel
// it is no different from one in the host's namespace.
type Isolated struct {
	// Inside runs a function in the namespace. Sysctls and Table work in the calling thread's; Servers know theirs.
	Inside  func(func() error) error
	Sysctls Sysctls
	Table   Table
	Servers Servers
	// Outside are the host's sysctls and record of VIPs.
	OutsideSysctls Sysctls
	OutsideTable   Record
	// Interfaces are the host's, VIPs the joint.
	Interfaces Interfaces
	VIPs       VIPs
	// Link is the host's end of the link, which is no interface for VIPs.
	Link string
}

// Record is the host's table in isolated placement: see nft.Outside.
type Record interface {
	Owned(context.Context) ([]netip.Addr, error)
	Sync(context.Context, []netip.Addr) (bool, error)
	Delete(context.Context) error
	Intact() (bool, error)
	Verify(context.Context, []netip.Addr) (bool, error)
}

// Interfaces are a host's own: see package netif.
type Interfaces interface {
	Interfaces() ([]netif.Interface, error)
	Receive([]model.Receiver) (int, error)
}

// VIPs are the addresses that the host hands on: see package isolated.
type VIPs interface {
	Bound() ([]model.Binding, error)
	Bind([]model.Binding, time.Duration) map[netip.Addr]error
	Refresh([]model.Binding, time.Duration) error
	Unbind([]model.Binding) map[netip.Addr]error
}

// Kernel makes a Kernel of the parts.
func (i Isolated) Kernel(announcer Announcer) Kernel {
	return Kernel{
		Sysctls: bothSysctls{i}, Table: bothTables{i}, Servers: i.Servers,
		Addresses: hostAddresses{VIPs: i.VIPs, host: i.Interfaces, link: i.Link}, Announcer: announcer,
	}
}

type bothSysctls struct{ parts Isolated }

func (s bothSysctls) Apply() ([]string, error) {
	changed, err := s.parts.OutsideSysctls.Apply()
	if err != nil {
		return changed, err
	}
	err = s.parts.Inside(func() error {
		inside, err := s.parts.Sysctls.Apply()
		for _, name := range inside {
			changed = append(changed, name+" (inside)")
		}
		if err != nil {
			return fmt.Errorf("in the datapath's network namespace: %w", err)
		}
		return nil
	})
	return changed, err
}

func (s bothSysctls) Receive() ([]string, error) { return s.parts.OutsideSysctls.Receive() }

// bothTables keep the record on both sides. The host's alone is asked: a VIP is on it from before anything of it exists anywhere
// until after all but its element inside is gone, which the next Sync removes.
type bothTables struct{ Isolated }

func (t bothTables) Owned(ctx context.Context) ([]netip.Addr, error) {
	return t.OutsideTable.Owned(ctx)
}

func (t bothTables) Sync(ctx context.Context, state nft.State) (changed bool, err error) {
	if changed, err = t.OutsideTable.Sync(ctx, state.VIPs); err != nil {
		return changed, err
	}
	err = t.Inside(func() error {
		inside, err := t.Table.Sync(ctx, state)
		changed = changed || inside
		return err
	})
	return changed, err
}

func (t bothTables) Apply(ctx context.Context, from, to nft.State) error {
	if !slices.Equal(from.VIPs, to.VIPs) {
		if _, err := t.OutsideTable.Sync(ctx, to.VIPs); err != nil {
			return err
		}
	}
	return t.Inside(func() error { return t.Table.Apply(ctx, from, to) })
}

func (t bothTables) Delete(ctx context.Context) error {
	if err := t.Inside(func() error { return t.Table.Delete(ctx) }); err != nil {
		return err
	}
	return t.OutsideTable.Delete(ctx)
}

// Intact looks at the host's table, which others may touch, and at that of the namespace. Each knows its namespace.
func (t bothTables) Intact() (bool, error) {
	if intact, err := t.OutsideTable.Intact(); !intact || err != nil {
		return intact, err
	}
	return t.Table.Intact()
}

// Verify runs no program in the namespace, for which an Apply would have to wait, unless others changed rules there.
func (t bothTables) Verify(ctx context.Context, state nft.State) (asWanted bool, err error) {
	if asWanted, err = t.OutsideTable.Verify(ctx, state.VIPs); err != nil || !asWanted {
		return asWanted, err
	}
	err = t.Inside(func() (err error) {
		asWanted, err = t.Table.Verify(ctx, state)
		return err
	})
	return asWanted, err
}

// Divert has nothing to do: the host hands on what is for a VIP without translating it, and inside nothing goes elsewhere.
func (t bothTables) Divert([]netip.Addr) error { return nil }

// hostAddresses are the host's interfaces, with the VIPs that it hands on.
type hostAddresses struct {
	VIPs
	host Interfaces
	link string
}

func (a hostAddresses) Interfaces() ([]netif.Interface, error) {
	interfaces, err := a.host.Interfaces()
	return slices.DeleteFunc(interfaces, func(i netif.Interface) bool { return i.Name == a.link }), err
}

func (a hostAddresses) Receive(receivers []model.Receiver) (int, error) {
	return a.host.Receive(receivers)
}
