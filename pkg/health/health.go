// Package health finds out whether backends answer.
//
// It owns the goroutines that check and the connections that they open, from the network namespace of the process. It does
// not know what a backend is for, and changes nothing: who asks for a Verdict decides what follows from it.
//
// It does not promise that a verdict is newer than the last Interval and Timeout of its check: with more checks under way than
// Config.MaxChecks allows, some start late, those of networks that do not answer first. How late is told to Observe.
package health

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

const (
	// startWithin is the time over which the first checks of many new targets are spread. It is short: until then a target
	// counts as up.
	startWithin = time.Second
	// jitter is the part of an interval by which checks differ at random, so that those of many targets and of many nodes
	// do not come in step.
	jitter = 0.1
)

// Config of a Checker.
type Config struct {
	// Notify is called when a verdict changed. It must not block.
	Notify func()
	// Observe is called after every check, from several goroutines: how late it was started, and a nil error if it succeeded.
	// Nil: nobody asks.
	Observe func(target model.Target, late time.Duration, err error)
	// MaxChecks is how many checks are under way at once. 0: as many as the process has file descriptors for, see maxChecks.
	MaxChecks int
}

// Verdict is what is known of a target.
type Verdict struct {
	// Down is false for a target that was not judged yet, or that nobody wants to be checked.
	Down bool
	// Reason of the check that failed last, while Down: "TCP connect: connection refused".
	Reason string
}

// Checker checks targets again and again. Change, Down and Verdict may be called at any time, Run once.
type Checker struct {
	config Config
	probe  func(context.Context, model.Target) error
	wake   chan struct{}

	mu     sync.Mutex
	states map[model.Target]*state // of the targets that are wanted
	down   downs                   // those of them that are down
	queue  queue                   // of those of them that wait for their next check
	slots  slots
}

// New makes a Checker that checks nothing yet.
func New(config Config) *Checker {
	return &Checker{
		config: config, probe: new(prober).probe, wake: make(chan struct{}, 1), states: map[model.Target]*state{},
		slots: slots{limit: cmp.Or(config.MaxChecks, maxChecks()), networks: map[netip.Prefix]*network{}},
	}
}

// Change has targets checked from now on, those that are true, or no more. What is known of the others is kept.
func (c *Checker) Change(targets map[model.Target]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	added := false
	for target, wanted := range targets {
		known := c.states[target]
		switch {
		case wanted && known == nil:
			state := &state{target: target, index: unqueued, due: time.Now().Add(rand.N(max(min(startWithin, target.Check.Interval), 1)))}
			c.states[target] = state
			heap.Push(&c.queue, state)
			added = true
		case !wanted && known != nil:
			c.drop(known)
			delete(c.states, target)
			c.down.set(target, false)
		}
	}
	if added {
		c.wakeUp()
	}
}

// drop forgets a target: it waits for no check any more, and one that is under way is cut short.
func (c *Checker) drop(state *state) {
	state.dropped = true
	if state.index != unqueued {
		heap.Remove(&c.queue, state.index)
	}
	if state.stop != nil {
		state.stop()
	}
}

// Down gives the targets that are down. The map must not be changed, and does not change.
func (c *Checker) Down() map[model.Target]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down.share()
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

func (c *Checker) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run checks until the context ends, and returns when all checks have.
func (c *Checker) Run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-timer.C:
		}
		c.mu.Lock()
		for state := c.next(); state != nil; state = c.next() {
			checking, stop := context.WithTimeout(ctx, state.target.Check.Timeout)
			state.stop = stop
			late := time.Since(state.due)
			work.Go(func() { c.check(checking, state, late) })
		}
		if len(c.queue) > 0 {
			timer.Reset(time.Until(c.queue[0].due))
		}
		c.mu.Unlock()
	}
}

// next takes a target whose check may start now; nil if none may. One that is due but has no slot waits for one of its network.
func (c *Checker) next() *state {
	if state := c.slots.resume(); state != nil {
		return state
	}
	now := time.Now()
	for len(c.queue) > 0 && !c.queue[0].due.After(now) {
		state := heap.Pop(&c.queue).(*state)
		if c.slots.take(state) {
			return state
		}
	}
	return nil
}

// check makes one check of a target that has a slot, and puts the target into the queue for the next.
func (c *Checker) check(ctx context.Context, state *state, late time.Duration) {
	started := time.Now()
	err := c.probe(ctx, state.target)
	cut := errors.Is(context.Cause(ctx), context.Canceled) // it says nothing of the target
	if !cut && c.config.Observe != nil {
		c.config.Observe(state.target, late, err)
	}
	c.mu.Lock()
	state.stop()
	state.stop = nil
	waiting := c.slots.free(state)
	changed := false
	if !cut && !state.dropped {
		changed = state.judge(err)
		c.down.set(state.target, state.verdict.Down)
		state.due = started.Add(pause(state.target.Check.Interval))
		heap.Push(&c.queue, state)
		waiting = waiting || state.index == 0
	}
	c.mu.Unlock()
	if waiting {
		c.wakeUp()
	}
	if changed {
		c.config.Notify()
	}
}

// pause is an interval, a bit more or less at random.
func pause(interval time.Duration) time.Duration {
	return time.Duration(float64(interval) * (1 - jitter + 2*jitter*rand.Float64()))
}
