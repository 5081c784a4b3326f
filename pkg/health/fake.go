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
func NewFake() *Fake {
	return &Fake{targets: map[model.Target]bool{}, down: map[model.Target]Verdict{}}
}

// Fail makes a target be down for a reason, or up if the reason is empty.
func (f *Fake) Fail(target model.Target, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.down, target)
	if reason != "" {
		f.down[target] = Verdict{Down: true, Reason: reason}
	}
}

// Targets are those that are wanted.
func (f *Fake) Targets() map[model.Target]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.targets)
}

// Change is that of Checker.
func (f *Fake) Change(targets map[model.Target]bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.targets, targets)
	maps.DeleteFunc(f.targets, func(_ model.Target, wanted bool) bool { return !wanted })
}

// Down is that of Checker.
func (f *Fake) Down() map[model.Target]bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	down := map[model.Target]bool{}
	for target, verdict := range f.down {
		if f.targets[target] && verdict.Down {
			down[target] = true
		}
	}
	return down
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
