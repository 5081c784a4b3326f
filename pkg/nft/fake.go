package nft

import (
	"context"
	"net/netip"
	"slices"
	"sync"
)

// Fake is a Table in memory, for tests of what uses it.
type Fake struct {
	mu     sync.Mutex
	exists bool
	have   []element
	state  State
	synced bool
	writes int
	err    error

	diverted []netip.Addr
}

// NewFake returns a host without the table, or with one that says what state says.
func NewFake(state ...State) *Fake {
	f := &Fake{}
	for _, s := range state {
		f.exists, f.state = true, s
		f.have, f.err = elementsOf(s)
	}
	return f
}

// FailWith makes every following write fail with the error; nil ends that.
func (f *Fake) FailWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// State returns what was last written.
func (f *Fake) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// Writes returns how many transactions were made since the last call of Writes.
func (f *Fake) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	writes := f.writes
	f.writes = 0
	return writes
}

// Vanish deletes the table as somebody else would.
func (f *Fake) Vanish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.exists, f.have, f.state = false, nil, State{}
}

// Intact is that of Table.
func (f *Fake) Intact() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.exists || !f.synced, nil
}

// Verify is that of Table.
func (f *Fake) Verify(_ context.Context, want State) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted, err := elementsOf(want)
	return !f.synced || f.exists && slices.Equal(f.have, wanted), err
}

// Owned is that of Table.
func (f *Fake) Owned(context.Context) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var owned []netip.Addr
	for _, e := range f.have {
		if e.set == vips4 || e.set == vips6 {
			owned = append(owned, e.addr)
		}
	}
	slices.SortFunc(owned, netip.Addr.Compare)
	return owned, nil
}

// Sync is that of Table.
func (f *Fake) Sync(_ context.Context, want State) (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed, err = f.write(want)
	f.synced = err == nil
	return changed, err
}

// Apply is that of Table.
func (f *Fake) Apply(_ context.Context, _, to State) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.write(to)
	return err
}

func (f *Fake) write(want State) (changed bool, err error) {
	wanted, err := elementsOf(want)
	if err != nil {
		return false, err
	}
	if f.exists && slices.Equal(f.have, wanted) {
		return false, nil
	}
	if f.err != nil {
		return false, f.err
	}
	f.exists, f.have, f.state = true, wanted, want
	f.writes++
	return true, nil
}

// Divert is that of Table.
func (f *Fake) Divert(vips []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.diverted = append(f.diverted, vips...)
	return f.err
}

// Diverted are the VIPs of all calls of Divert.
func (f *Fake) Diverted() []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.diverted)
}

// Delete is that of Table.
func (f *Fake) Delete(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	if f.exists {
		f.writes++
	}
	f.exists, f.synced, f.have, f.state = false, false, nil, State{}
	return nil
}
