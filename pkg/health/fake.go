package health

import (
	"context"
	"maps"
	"sync"

	"github.com/fairlead/fairlead/pkg/model"
)

// Fake is a Checker whose verdicts a test decides.
type Fake struct {
	mu      sync.Mutex
	targets map[model.Target]bool
	down    map[model.Target]Verdict
}

// NewFake returns a Fake for which everything is up.
func NewFake() *Fake { return &Fake{down: map[model.Target]Verdict{}} }

// Fail makes a target be down for a reason, or up if the reason is empty.
func (f *Fake) Fail(target model.Target, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.down, target)
	if reason != "" {
		f.down[target] = Verdict{Down: true, Reason: reason}
	}
}

// Targets are those of the last Set.
func (f *Fake) Targets() map[model.Target]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.targets)
}

// Set is that of Checker.
func (f *Fake) Set(targets map[model.Target]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.targets = maps.Clone(targets)
}

// Verdict is that of Checker: of a target that is not wanted nothing is known.
func (f *Fake) Verdict(target model.Target) Verdict {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.targets[target] {
		return Verdict{}
	}
	return f.down[target]
}

// Run is that of Checker.
func (f *Fake) Run(ctx context.Context) { <-ctx.Done() }
