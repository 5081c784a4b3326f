package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
)

// Kernel is what the datapath is made of, in the order in which a VIP comes up.
type Kernel struct {
	Sysctls   Sysctls
	Table     Table
	Servers   Servers
	Addresses Addresses
	Announcer Announcer
}

// Sysctls are the node's network sysctls: see package host.
type Sysctls interface {
	Apply() ([]string, error)
	Receive() ([]string, error)
}

// Table is the node's nftables table: see package nft.
type Table interface {
	Owned(context.Context) ([]netip.Addr, error)
	Sync(context.Context, nft.State) (bool, error)
	Apply(ctx context.Context, from, to nft.State) error
	Delete(context.Context) error
	Intact() (bool, error)
	Verify(context.Context, nft.State) (bool, error)
	Divert([]netip.Addr) error
}

// Servers are the node's IPVS services: see package ipvs.
type Servers interface {
	Servers() ([]model.Server, error)
	Frontends() ([]model.Frontend, error)
	Server(model.Frontend) (model.Server, bool, error)
	Connections(model.Frontend) (map[netip.AddrPort]int, error)
	Apply([]ipvs.Change) (int, error)
}

// Addresses are the node's interfaces and VIPs: see package netif.
type Addresses interface {
	Interfaces() ([]netif.Interface, error)
	Bound() ([]model.Binding, error)
	Bind([]model.Binding, time.Duration) map[netip.Addr]error
	Refresh([]model.Binding, time.Duration) error
	Unbind([]model.Binding) map[netip.Addr]error
	Receive([]model.Receiver) (int, error)
}

// Announcer tells the neighbours and listens to them: see package announce.
type Announcer interface {
	Set([]model.Binding)
	Probe(context.Context, []model.Binding) (map[netip.Addr]announce.Sighting, error)
	Defend(model.Binding)
	Repeat(model.Binding)
	Ask([]model.Binding)
	Run(context.Context)
}

// Outcome is what Apply left in the kernel.
type Outcome struct {
	// Bound are the VIPs that are bound and announced, as wanted.
	Bound []model.Binding
	// Failed says what keeps a VIP from being programmed or bound.
	Failed map[netip.Addr]error
	// Writes is how many changes were made, but for refreshes of lifetimes.
	Writes int
	// Repairs are those of them that somebody else made necessary.
	Repairs Repairs
	// Again is when to Apply again although nothing else is wanted; 0: not for that.
	Again time.Duration
}

// Datapath makes the kernel's state that of the plan, layer by layer. One goroutine calls Apply; Refresh and Look may be
// called beside it.
type Datapath struct {
	kernel Kernel
	right  func() time.Duration // how long the right to announce lasts from now on

	record  []netip.Addr     // the VIPs that the table lists, in order: what is ours; nil: it must be read
	applied *model.NodeState // what the kernel was made to be; nil: it must be read
	before  *model.NodeState // what it was made to be before it must be read; nil: not known
	doubt   bool             // the IPVS services are to be read although applied is set
	table   nft.State        // the table's content, while one of them is set
	noted   bool             // table is the table's content although neither is set
	tenure

	sysctls  sync.Mutex // held while sysctls change
	nextDump time.Time  // of the IPVS services, for Look

	mu         sync.Mutex // held while addresses change
	bound      []model.Binding
	livesUntil time.Time    // until when none of bound can have left by itself
	astray     bool         // some may have left all the same
	taken      []netip.Addr // bound since Divert was called

	expecting sync.Mutex // not held while the kernel works
	expected  *expectation
}

// NewDatapath makes a Datapath. Nothing is read or written yet.
func NewDatapath(kernel Kernel, right func() time.Duration) *Datapath {
	return &Datapath{kernel: kernel, right: right}
}

// Distrust makes the next Apply read everything from the kernel.
func (d *Datapath) Distrust() {
	d.noted = false
	if d.applied != nil {
		d.before, d.applied = d.applied, nil
	}
}

// Doubt makes the next Apply read the IPVS services. To read the table takes several processes, and long: who knows that only
// IPVS was touched need not wait for it.
func (d *Datapath) Doubt() { d.doubt = true }

// DoubtAddresses makes the next Apply read which VIPs are bound, and which this node has as a backend.
func (d *Datapath) DoubtAddresses() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.astray = true
}

// Apply withdraws what is not wanted and brings up what is, in the order of effects: a VIP is bound and announced only when
// all below it is in place. While settled is false nothing that is bound is taken off: who holds what is not known yet.
// An error says that something is not as wanted; what could be done was done, and the next Apply reads the kernel.
func (d *Datapath) Apply(ctx context.Context, want model.NodeState, settled bool) (Outcome, error) {
	d.expect(nil)
	step := &step{
		Datapath: d, want: want, settled: settled, outcome: Outcome{Failed: map[netip.Addr]error{}, Repairs: Repairs{}},
		synced: d.noted,
	}
	err := step.run(ctx)
	d.before, d.doubt, d.noted = nil, false, false
	if err != nil {
		d.applied = nil
		return step.outcome, err
	}
	d.expect(&expectation{servers: step.want.Servers, table: d.table})
	if d.applied = &step.want; !settled {
		// What was left because who holds what was unknown is to be looked at again. The table, which takes longest to read and which a
		// takeover soon after a start would wait for, is known.
		d.applied, d.noted = nil, true
	}
	return step.outcome, nil
}

func (d *Datapath) lastBound() []model.Binding {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bound
}

// Refresh prolongs the lives of the VIPs that are bound: the fence that a speaker which dies cannot prolong. Those that
// somebody took off it binds again, as repairs, since an Apply under way may take long to come to that. It says whether all
// VIPs were there; if not, the next Apply looks at what is.
func (d *Datapath) Refresh() (repairs Repairs, complete bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	lifetime := d.fence()
	if lifetime <= 0 || len(d.bound) == 0 {
		return nil, true, nil
	}
	have, err := d.kernel.Addresses.Bound()
	if err != nil {
		return nil, true, err
	}
	until := time.Now().Add(lifetime)
	there := intersect(d.bound, have)
	var removed []model.Binding
	if complete = len(there) == len(d.bound); !complete {
		d.astray = true
		removed = d.removed(have)
	}
	if err := d.kernel.Addresses.Refresh(append(there, removed...), lifetime); err != nil {
		return nil, complete, err
	}
	if len(there)+len(removed) == len(d.bound) {
		d.livesUntil = until
	}
	repairs = Repairs{}
	for _, binding := range removed {
		repairs.add(layerAddresses, inWords(binding))
	}
	return repairs, complete, nil
}

// Leave gives those of some VIPs that are bound a last lifetime, whatever the right, for a speaker that comes after this one.
func (d *Datapath) Leave(held []model.Binding, lifetime time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	have, err := d.kernel.Addresses.Bound()
	if err != nil {
		return err
	}
	return d.kernel.Addresses.Refresh(intersect(held, have), lifetime)
}

// fence is the lifetime to bind VIPs for: what is left of the right in whole seconds, as the kernel counts them. They are
// rounded down, because the kernel may take a second longer to remove an address; others wait TTake, which is longer.
func (d *Datapath) fence() time.Duration {
	right := d.right()
	if right <= 0 {
		return 0
	}
	return max(right.Truncate(time.Second), time.Second)
}

// step is one Apply.
type step struct {
	*Datapath
	want    model.NodeState
	settled bool
	outcome Outcome
	leaving []netip.Addr // ours, but wanted no more
	synced  bool         // the table is as noted
	errs    []error

	unsure       bool         // of the addresses
	settledBound bool         // what is bound is what is wanted, and was announced before
	emptied      []netip.Addr // VIPs whose servers lose their backends now: see tenure
}

func (s *step) run(ctx context.Context) error {
	s.outcome.Bound = s.lastBound() // until it is known better: a claim is handed back only when its VIP is off
	if s.applied == nil {
		if err := s.readRecord(ctx); err != nil {
			return err
		}
	}
	have, err := s.readBound()
	if err != nil {
		return err
	}
	s.receiveFirst()
	s.withdraw(have)
	s.reckon(have)
	s.findLeaving()
	if err := s.translate(ctx, s.guarded(have)); err != nil {
		s.keepBound(have)
		return errors.Join(append(s.errs, err)...)
	}
	s.balance()
	s.emptying()
	if err := s.translate(ctx, s.tableState(s.remaining())); err != nil {
		s.errs = append(s.errs, err)
	}
	s.bind(have)
	s.receive()
	return errors.Join(s.errs...)
}

// readBound lists what is bound. Where the same VIPs are wanted as before, all of them were bound, and nobody doubts that they
// still are, that is what was wanted: to list thousands takes long, and Refresh and who watches the interfaces miss none.
func (s *step) readBound() ([]model.Binding, error) {
	s.mu.Lock()
	bound := s.bound
	s.unsure, s.astray = s.astray, false
	s.mu.Unlock()
	s.settledBound = s.applied != nil && s.settled && !s.unsure && same(s.want.Bindings, s.applied.Bindings) && len(bound) == len(s.want.Bindings)
	if s.settledBound {
		return bound, nil
	}
	have, err := s.kernel.Addresses.Bound()
	if err != nil {
		s.DoubtAddresses()
	}
	return have, err
}

// readRecord finds out what is ours, and sets the sysctls that everything above needs.
func (s *step) readRecord(ctx context.Context) error {
	if s.record == nil { // later what was last written is ours, even should somebody have deleted the table
		owned, err := s.kernel.Table.Owned(ctx)
		if err != nil {
			return fmt.Errorf("read which VIPs are ours: %w", err)
		}
		s.record = append([]netip.Addr{}, owned...)
		slices.SortFunc(s.record, netip.Addr.Compare)
	}
	changed, err := s.applySysctls()
	s.outcome.Writes += len(changed)
	s.repairedSysctls(changed)
	return err
}

// owned reports whether an address or a server is ours to change.
func (s *step) owned(addr netip.Addr) bool {
	_, recorded := slices.BinarySearchFunc(s.record, addr, netip.Addr.Compare)
	_, found := slices.BinarySearchFunc(s.want.VIPs, addr, netip.Addr.Compare)
	return recorded || found
}

// withdraw stops announcing, then takes off, what is not wanted.
func (s *step) withdraw(have []model.Binding) {
	if s.settledBound {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	staying := intersect(s.want.Bindings, have)
	s.kernel.Announcer.Set(staying)
	if !s.settled {
		return
	}
	s.bound = staying
	_, unbind := netif.Diff(s.want.Bindings, have, s.owned)
	failed := s.kernel.Addresses.Unbind(unbind)
	for addr, err := range failed {
		s.errs = append(s.errs, err)
		s.outcome.Failed[addr] = err
	}
	s.outcome.Writes += len(unbind) - len(failed)
	s.kernel.Announcer.Ask(slices.DeleteFunc(unbind, func(b model.Binding) bool { return failed[b.Addr] != nil }))
}

// findLeaving lists the VIPs that are recorded as ours but wanted no more.
func (s *step) findLeaving() {
	if model.Same(s.record, s.want.VIPs) {
		return
	}
	for _, addr := range s.record {
		if _, wanted := slices.BinarySearchFunc(s.want.VIPs, addr, netip.Addr.Compare); !wanted {
			s.leaving = append(s.leaving, addr)
		}
	}
}

// remaining are the VIPs that leave but are not gone yet: they stay on record.
func (s *step) remaining() []netip.Addr {
	if !s.settled {
		return s.leaving
	}
	var out []netip.Addr
	for _, addr := range s.leaving {
		if s.outcome.Failed[addr] != nil {
			out = append(out, addr)
		}
	}
	return out
}

// same reports whether lists say the same.
func same[T comparable](a, b []T) bool { return model.Same(a, b) || slices.Equal(a, b) }

func compareServer(s model.Server, f model.Frontend) int { return s.Compare(f) }

// intersect lists the bindings that are in both.
func intersect(want, have []model.Binding) []model.Binding {
	there := setOf(have)
	var out []model.Binding
	for _, binding := range want {
		if there[binding] {
			out = append(out, binding)
		}
	}
	return out
}

func setOf(bindings []model.Binding) map[model.Binding]bool {
	set := make(map[model.Binding]bool, len(bindings))
	for _, binding := range bindings {
		set[binding] = true
	}
	return set
}
