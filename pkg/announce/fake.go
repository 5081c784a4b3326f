package announce

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// Fake is an Announcer in memory, for tests of what uses it: it announces a new binding once, in Set, if that is allowed.
type Fake struct {
	mu       sync.Mutex
	allowed  func(netip.Addr) bool
	set      []model.Binding
	packets  []model.Binding
	users    map[netip.Addr]Sighting
	probed   []model.Binding
	defended []model.Binding
	repeated []model.Binding
	asked    []model.Binding
}

// NewFake returns an Announcer that records what it would send. Of the Config it heeds Allowed; nil allows everything.
func NewFake(cfg Config) *Fake {
	f := &Fake{allowed: cfg.Allowed, users: map[netip.Addr]Sighting{}}
	if f.allowed == nil {
		f.allowed = func(netip.Addr) bool { return true }
	}
	return f
}

// Set is that of Announcer.
func (f *Fake) Set(bindings []model.Binding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bindings {
		if !slices.Contains(f.set, b) {
			f.send(b)
		}
	}
	f.set = slices.Clone(bindings)
}

func (f *Fake) send(b model.Binding) {
	if f.allowed(b.Addr) {
		f.packets = append(f.packets, b)
	}
}

// Run is that of Announcer.
func (f *Fake) Run(ctx context.Context) { <-ctx.Done() }

// Probe is that of Announcer: it returns at once what Use said.
func (f *Fake) Probe(_ context.Context, bindings []model.Binding) (map[netip.Addr]Sighting, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probed = append(f.probed, bindings...)
	found := map[netip.Addr]Sighting{}
	for _, b := range bindings {
		if s, used := f.users[b.Addr]; used {
			s.At = time.Now()
			found[b.Addr] = s
		}
	}
	return found, nil
}

// Defend is that of Announcer, without its limit.
func (f *Fake) Defend(b model.Binding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.set, b) && f.allowed(b.Addr) {
		f.defended = append(f.defended, b)
	}
}

// Use has another host use an address, as Probe finds out.
func (f *Fake) Use(s Sighting) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users[s.Addr] = s
}

// Free ends that.
func (f *Fake) Free(addr netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.users, addr)
}

// Probed returns the bindings that were asked for since the last call of Probed.
func (f *Fake) Probed() []model.Binding {
	f.mu.Lock()
	defer f.mu.Unlock()
	probed := f.probed
	f.probed = nil
	return probed
}

// Repeat is that of Announcer, without its limit.
func (f *Fake) Repeat(b model.Binding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.set, b) && f.allowed(b.Addr) {
		f.repeated = append(f.repeated, b)
	}
}

// Ask is that of Announcer.
func (f *Fake) Ask(gone []model.Binding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, gone...)
}

// Asked returns the bindings of all calls of Ask.
func (f *Fake) Asked() []model.Binding {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asked)
}

// Repeated returns the bindings that were repeated.
func (f *Fake) Repeated() []model.Binding {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.repeated)
}

// Defended returns the bindings that were defended since the last call of Defended.
func (f *Fake) Defended() []model.Binding {
	f.mu.Lock()
	defer f.mu.Unlock()
	defended := f.defended
	f.defended = nil
	return defended
}

// Announced returns the bindings that are announced now.
func (f *Fake) Announced() []model.Binding {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.set)
}

// Packets returns the announcements sent since the last call of Packets.
func (f *Fake) Packets() []model.Binding {
	f.mu.Lock()
	defer f.mu.Unlock()
	packets := f.packets
	f.packets = nil
	return packets
}
