package host

import "sync"

// Fake is Sysctls in memory, for tests of what uses them: everything is as it should be, or fails.
type Fake struct {
	mu      sync.Mutex
	pending []string
	err     error
}

// NewFake returns sysctls of which the named ones still have to be changed.
func NewFake(pending ...string) *Fake { return &Fake{pending: pending} }

// FailWith makes Apply fail with the error; nil ends that.
func (f *Fake) FailWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// Receive is that of Sysctls.
func (f *Fake) Receive() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return nil, f.err
}

// Apply is that of Sysctls.
func (f *Fake) Apply() (changed []string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	changed, f.pending = f.pending, nil
	return changed, nil
}
