package announce

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead/fairlead/pkg/model"
)

// Fake is an Announcer in memory, for tests of what uses it: it announces a new binding once, in Set, if that is allowed.
type Fake struct {
	mu      sync.Mutex
	allowed func(netip.Addr) bool
	set     []model.Binding
	packets []model.Binding
}

// NewFake returns an Announcer that records what it would send. Of the Config it heeds Allowed; nil allows everything.
func NewFake(cfg Config) *Fake {
	f := &Fake{allowed: cfg.Allowed}
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
