package netif

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// Fake is a Kernel in memory, for tests of what uses it. Time does not pass in it: a test ends a lifetime with Expire.
type Fake struct {
	mu         sync.Mutex
	interfaces []Interface
	bound      map[model.Binding]time.Duration
	writes     []string
	receivers  []model.Receiver
	fail       func(model.Binding) error
	changed    chan struct{} // closed at the next change of links or addresses
}

// NewFake returns a node with the given interfaces.
func NewFake(interfaces ...Interface) *Fake {
	return &Fake{interfaces: interfaces, bound: map[model.Binding]time.Duration{}, changed: make(chan struct{})}
}

// SetInterfaces replaces the node's interfaces; bindings on one that is not among them are gone.
func (f *Fake) SetInterfaces(interfaces ...Interface) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interfaces = interfaces
	for b := range f.bound {
		if !f.has(b.Interface) {
			delete(f.bound, b)
		}
	}
	f.change()
}

// Expire removes bindings as the kernel does at the end of their lifetime.
func (f *Fake) Expire(bindings ...model.Binding) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bindings {
		delete(f.bound, b)
	}
	f.change()
}

// FailOn makes every write of a binding for which fail returns an error fail with it; nil ends that.
func (f *Fake) FailOn(fail func(model.Binding) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// Writes returns what was written since the last call: "bind 10.0.0.1 on eth0", "refresh …", "unbind …".
func (f *Fake) Writes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	writes := f.writes
	f.writes = nil
	return writes
}

// Lifetime returns the lifetime that a binding was last given, 0 if it is not bound.
func (f *Fake) Lifetime(b model.Binding) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bound[b]
}

// Interfaces is that of Kernel.
func (f *Fake) Interfaces() ([]Interface, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.interfaces), nil
}

// Bound is that of Kernel.
func (f *Fake) Bound() ([]model.Binding, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	bound := make([]model.Binding, 0, len(f.bound))
	for b := range f.bound {
		bound = append(bound, b)
	}
	return sorted(bound), nil
}

// Bind is that of Kernel.
func (f *Fake) Bind(bindings []model.Binding, lifetime time.Duration) map[netip.Addr]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	failed := map[netip.Addr]error{}
	for _, b := range bindings {
		if err := f.bind("bind", b, lifetime); err != nil {
			failed[b.Addr] = err
		}
	}
	return failed
}

// Refresh is that of Kernel.
func (f *Fake) Refresh(bindings []model.Binding, lifetime time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range bindings {
		if err := f.bind("refresh", b, lifetime); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fake) bind(verb string, b model.Binding, lifetime time.Duration) error {
	if f.fail != nil {
		if err := f.fail(b); err != nil {
			return fmt.Errorf("%s %s on %s: %w", verb, b.Addr, b.Interface, err)
		}
	}
	if !f.has(b.Interface) {
		return fmt.Errorf("%s %s on %s: the node has no such interface", verb, b.Addr, b.Interface)
	}
	f.bound[b] = time.Duration(seconds(lifetime)) * time.Second
	f.writes = append(f.writes, fmt.Sprintf("%s %s on %s", verb, b.Addr, b.Interface))
	return nil
}

func (f *Fake) has(name string) bool {
	return slices.ContainsFunc(f.interfaces, func(i Interface) bool { return i.Name == name })
}

// Unbind is that of Kernel.
func (f *Fake) Unbind(bindings []model.Binding) map[netip.Addr]error {
	f.mu.Lock()
	defer f.mu.Unlock()
	failed := map[netip.Addr]error{}
	for _, b := range bindings {
		if f.fail != nil {
			if err := f.fail(b); err != nil {
				failed[b.Addr] = taking.failure(b, err)
				continue
			}
		}
		if _, ok := f.bound[b]; ok {
			delete(f.bound, b)
			f.writes = append(f.writes, fmt.Sprintf(taking.verb, b.Addr, b.Interface))
			f.change()
		}
	}
	return failed
}

// Receive is that of Kernel.
func (f *Fake) Receive(receivers []model.Receiver) (changed int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Equal(f.receivers, receivers) {
		return 0, nil
	}
	f.receivers = slices.Clone(receivers)
	return 1, nil
}

// Receivers returns what was last received.
func (f *Fake) Receivers() []model.Receiver {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.receivers
}

// Close is that of Kernel.
func (f *Fake) Close() {}

func (f *Fake) change() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Watch is that of Kernel.
func (f *Fake) Watch(ctx context.Context, notify func()) {
	for {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		notify()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
