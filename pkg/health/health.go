// Package health finds out whether backends answer.
//
// It owns the goroutines that check and the connections that they open, from the network namespace of the process. It does
// not know what a backend is for, and changes nothing: who asks for a Verdict decides what follows from it.
//
// It does not promise that a verdict is newer than the last Interval and Timeout of its check; with more than maxChecks
// under way at once, checks start later than their Interval says.
package health

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

const (
	// maxChecks is how many checks are under way at once. Each has a file descriptor, of which a process has 1024 where
	// nobody says otherwise.
	maxChecks = 256
	// startWithin is the time over which the first checks of many new targets are spread. It is short: until then a target
	// counts as up.
	startWithin = time.Second
	// spread is the part of an interval by which checks differ at random, so that those of many targets and of many nodes
	// do not come in step.
	spread = 0.1
)

// Config of a Checker.
type Config struct {
	// Notify is called when a verdict changed. It must not block.
	Notify func()
	// Observe is called after every check, from several goroutines: a nil error says that it succeeded. Nil: nobody asks.
	Observe func(model.Target, error)
}

// Verdict is what is known of a target.
type Verdict struct {
	// Down is false for a target that was not judged yet, or that nobody wants to be checked.
	Down bool
	// Reason of the check that failed last, while Down: "TCP connect: connection refused".
	Reason string
}

// Checker checks targets again and again. Set and Verdict may be called at any time, Run once.
type Checker struct {
	config Config
	probe  func(context.Context, model.Target) error
	slots  chan struct{}
	wake   chan struct{}

	mu     sync.Mutex
	states map[model.Target]*state // of the targets that are wanted
}

// state is what is known of a target.
type state struct {
	verdict Verdict
	judged  bool
	streak  int // checks in a row that contradict the verdict
}

// New makes a Checker that checks nothing yet.
func New(config Config) *Checker {
	return &Checker{
		config: config, probe: probe, slots: make(chan struct{}, maxChecks), wake: make(chan struct{}, 1),
		states: map[model.Target]*state{},
	}
}

// Set says which targets to check from now on. What is known of those that stay is kept.
func (c *Checker) Set(targets map[model.Target]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for target := range c.states {
		if !targets[target] {
			delete(c.states, target)
			changed = true
		}
	}
	for target, wanted := range targets {
		if wanted && c.states[target] == nil {
			c.states[target] = &state{}
			changed = true
		}
	}
	if changed {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// Verdict tells what is known of a target.
func (c *Checker) Verdict(target model.Target) Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state := c.states[target]; state != nil {
		return state.verdict
	}
	return Verdict{}
}

// Run checks until the context ends, and returns when all checks have.
func (c *Checker) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	running := map[*state]context.CancelFunc{}
	for {
		wanted := c.wanted()
		for state, stop := range running {
			if _, stays := wanted[state]; !stays {
				stop()
				delete(running, state)
			}
		}
		for state, target := range wanted {
			if running[state] == nil {
				checking, stop := context.WithCancel(ctx)
				running[state] = stop
				work.Go(func() { c.watch(checking, target, state) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		}
	}
}

func (c *Checker) wanted() map[*state]model.Target {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[*state]model.Target, len(c.states))
	for target, state := range c.states {
		out[state] = target
	}
	return out
}

// watch checks one target until the context ends.
func (c *Checker) watch(ctx context.Context, target model.Target, state *state) {
	timer := time.NewTimer(rand.N(max(min(startWithin, target.Check.Interval), 1)))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case c.slots <- struct{}{}:
		}
		started := time.Now()
		err := c.check(ctx, target)
		<-c.slots
		if ctx.Err() != nil {
			return // cut short: it says nothing of the target
		}
		if c.config.Observe != nil {
			c.config.Observe(target, err)
		}
		if c.judge(target, state, err) {
			c.config.Notify()
		}
		timer.Reset(time.Until(started.Add(pause(target.Check.Interval))))
	}
}

func (c *Checker) check(ctx context.Context, target model.Target) error {
	ctx, cancel := context.WithTimeout(ctx, target.Check.Timeout)
	defer cancel()
	return c.probe(ctx, target)
}

// pause is an interval, a bit more or less at random.
func pause(interval time.Duration) time.Duration {
	return time.Duration(float64(interval) * (1 - spread + 2*spread*rand.Float64()))
}

// judge takes the result of a check and reports whether the verdict changed. The first result decides alone, as in HAProxy: a
// speaker that was restarted would otherwise send connections to every dead backend until it had counted to Fall.
func (c *Checker) judge(target model.Target, state *state, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	failed := err != nil
	if failed && state.verdict.Down {
		state.verdict.Reason = err.Error()
	}
	if failed == state.verdict.Down {
		state.judged, state.streak = true, 0
		return false
	}
	state.streak++
	needed := target.Check.Rise
	if failed {
		needed = target.Check.Fall
	}
	if state.judged && state.streak < needed {
		return false
	}
	state.judged, state.streak = true, 0
	state.verdict = Verdict{Down: failed}
	if failed {
		state.verdict.Reason = err.Error()
	}
	return c.states[target] == state
}
