package health

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

func target(port uint16) model.Target {
	return model.Target{
		Addr:  netip.AddrPortFrom(netip.MustParseAddr("192.0.2.21"), port),
		Check: model.Check{Type: model.CheckTCP, Interval: 5 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3},
	}
}

func set(targets ...model.Target) map[model.Target]bool {
	out := map[model.Target]bool{}
	for _, t := range targets {
		out[t] = true
	}
	return out
}

// backends are what a Checker under test asks: each target has a script of results, the last of which goes on.
type backends struct {
	mu      sync.Mutex
	script  map[model.Target]string // '.' answers, 'x' refuses, 's' is silent
	asked   map[model.Target]int
	running atomic.Int32
	most    atomic.Int32
	late    map[byte]time.Duration // the most, by the third byte of the target's address
}

// testSlots is how many checks are under way at once in these tests.
const testSlots = 64

func (b *backends) observe(target model.Target, late time.Duration, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	network := target.Addr.Addr().As4()[2]
	b.late[network] = max(b.late[network], late)
}

func (b *backends) probe(ctx context.Context, target model.Target) error {
	if now := b.running.Add(1); now > b.most.Load() {
		b.most.Store(now)
	}
	defer b.running.Add(-1)
	b.mu.Lock()
	script := b.script[target]
	result := script[min(b.asked[target], len(script)-1)]
	b.asked[target]++
	b.mu.Unlock()
	switch result {
	case 'x':
		return errors.New("TCP connect: connection refused")
	case 's':
		<-ctx.Done()
		return fmt.Errorf("TCP connect: no answer: %w", ctx.Err())
	}
	return nil
}

// check runs a Checker in a bubble of made-up time. The scene gets the number of notifications.
func check(t *testing.T, script map[model.Target]string, scene func(*Checker, *backends, *atomic.Int32)) {
	synctest.Test(t, func(t *testing.T) {
		b := &backends{script: script, asked: map[model.Target]int{}, late: map[byte]time.Duration{}}
		var notified atomic.Int32
		checker := New(Config{Notify: func() { notified.Add(1) }, Observe: b.observe, MaxChecks: testSlots})
		checker.probe = b.probe
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { checker.Run(ctx) })
		scene(checker, b, &notified)
		cancel()
		work.Wait()
	})
}

func TestVerdicts(t *testing.T) {
	one := target(80)
	for name, test := range map[string]struct {
		script   string
		verdicts string // after each check, '.' up, 'x' down
		notified int32
	}{
		"what answers is up, and that is no news":           {script: ".....", verdicts: "....."},
		"the first check decides alone":                     {script: "xx", verdicts: "xx", notified: 1},
		"three failures in a row take one that was up down": {script: ".xxxx", verdicts: "...xx", notified: 1},
		"fewer do not":                       {script: "xx..xx.xx.", verdicts: "xxx.......", notified: 2},
		"two answers in a row bring it back": {script: "xx.x..", verdicts: "xxxxx.", notified: 2},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, map[model.Target]string{one: test.script}, func(c *Checker, b *backends, notified *atomic.Int32) {
				if c.Verdict(one).Down {
					t.Error("a target that nobody asked for is down")
				}
				c.Change(set(one))
				if c.Verdict(one).Down {
					t.Error("a target that was not judged yet is down")
				}
				var got string
				for i := range test.script {
					for b.count(one) <= i {
						time.Sleep(100 * time.Millisecond)
						synctest.Wait()
					}
					if c.Down()[one] != c.Verdict(one).Down {
						t.Errorf("down are %v, and the verdict is %+v", c.Down(), c.Verdict(one))
					}
					if c.Verdict(one).Down {
						got += "x"
					} else {
						got += "."
					}
				}
				if got != test.verdicts || notified.Load() != test.notified {
					t.Errorf("verdicts %s with %d notifications, want %s with %d", got, notified.Load(), test.verdicts, test.notified)
				}
			})
		})
	}
}

func (b *backends) count(target model.Target) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked[target]
}

func TestAVerdictSaysWhy(t *testing.T) {
	one, two := target(80), target(81)
	check(t, map[model.Target]string{one: "x", two: "s"}, func(c *Checker, _ *backends, _ *atomic.Int32) {
		c.Change(set(one, two))
		time.Sleep(10 * time.Second)
		for target, want := range map[model.Target]string{
			one: "TCP connect: connection refused", two: "TCP connect: no answer: context deadline exceeded",
		} {
			if got := c.Verdict(target); !got.Down || got.Reason != want {
				t.Errorf("%s: %+v, want %q", target.Addr, got, want)
			}
		}
	})
}

func TestChecksKeepTheirPace(t *testing.T) {
	fast, slow := target(80), target(81)
	check(t, map[model.Target]string{fast: ".", slow: "s"}, func(c *Checker, b *backends, _ *atomic.Int32) {
		c.Change(set(fast, slow))
		time.Sleep(100 * time.Second)
		// 5 s from start to start, with 2 s of waiting in it or without.
		for _, target := range []model.Target{fast, slow} {
			if got := b.count(target); got < 17 || got > 23 {
				t.Errorf("%s was checked %d times in 100 s, want about 20", target.Addr, got)
			}
		}
	})
}

func TestChangeKeepsWhatIsKnownOfThoseThatStay(t *testing.T) {
	stays, goes, comes := target(80), target(81), target(82)
	check(t, map[model.Target]string{stays: "x", goes: "x", comes: "."}, func(c *Checker, b *backends, notified *atomic.Int32) {
		c.Change(set(stays, goes))
		time.Sleep(10 * time.Second)
		c.Change(map[model.Target]bool{goes: false, comes: true})
		if !c.Verdict(stays).Down || c.Verdict(goes).Down || c.Verdict(comes).Down {
			t.Errorf("stays %+v, goes %+v, comes %+v", c.Verdict(stays), c.Verdict(goes), c.Verdict(comes))
		}
		synctest.Wait()
		before, known := b.count(goes), b.count(stays)
		time.Sleep(60 * time.Second)
		if b.count(goes) != before {
			t.Errorf("what is not wanted was checked %d times more", b.count(goes)-before)
		}
		if b.count(stays) == known || b.count(comes) == 0 {
			t.Error("what is wanted is not checked")
		}
		if notified.Load() != 2 {
			t.Errorf("%d notifications, want one for each that went down", notified.Load())
		}
		c.Change(map[model.Target]bool{stays: false, comes: false, goes: true})
		if c.Verdict(goes).Down {
			t.Error("what is known of a target outlived it")
		}
		if down := c.Down(); len(down) != 0 {
			t.Errorf("down are %v, which nobody wants any more or which were not judged yet", down)
		}
	})
}

// at is a target in another network: a host of its own in 192.0.N.0/24.
func at(network, host int) model.Target {
	t := target(80)
	t.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, byte(network), byte(host)}), 80)
	return t
}

func TestANetworkThatHangsDelaysNoOther(t *testing.T) {
	script := map[model.Target]string{}
	for host := range 200 {
		script[at(1, host)] = "s"
		script[at(2, host)] = "s"
		script[at(3, host)] = "."
	}
	check(t, script, func(c *Checker, b *backends, _ *atomic.Int32) {
		c.Change(keys(script))
		time.Sleep(60 * time.Second)
		if most := b.most.Load(); most > testSlots {
			t.Errorf("%d checks were under way at once, want %d at most", most, testSlots)
		}
		for target := range script {
			if hangs := target.Addr.Addr().As4()[2] != 3; c.Verdict(target).Down != hangs {
				t.Fatalf("%s is down: %v, want %v", target.Addr, !hangs, hangs)
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		// 2 s at each of 200 targets of two networks would need 160 slots all the time; those of the third network start
		// on time.
		for network, late := range b.late {
			if network != 3 && late < time.Second || network == 3 && late > 0 {
				t.Errorf("checks of network %d were late by up to %v", network, late)
			}
		}
		if len(b.late) != 3 {
			t.Errorf("lateness is known of the networks %v", b.late)
		}
	})
}

func TestWithOneSlotLeftEverybodyIsChecked(t *testing.T) {
	for limit := 1; limit <= 3; limit++ {
		s := slots{limit: limit, networks: map[netip.Prefix]*network{}}
		var running []*state
		started := map[*state]bool{}
		start := func(st *state) { running, started[st] = append(running, st), true }
		for host := range 12 {
			st := &state{target: at(host%3, host), index: unqueued}
			if s.take(st) {
				start(st)
			}
			if host%4 == 3 {
				st.dropped = !started[st]
				started[st] = true
			}
		}
		for len(running) > 0 {
			if s.used > limit {
				t.Fatalf("%d of %d slots are used", s.used, limit)
			}
			s.free(running[0])
			running = running[1:]
			for st := s.resume(); st != nil; st = s.resume() {
				start(st)
			}
		}
		if len(started) != 12 || s.used != 0 || len(s.networks) != 0 || len(s.waiting) != 0 {
			t.Errorf("limit %d: %d of 12 started, left is %+v", limit, len(started), s)
		}
	}
}

func keys(script map[model.Target]string) map[model.Target]bool {
	out := map[model.Target]bool{}
	for target := range script {
		out[target] = true
	}
	return out
}

func TestTheEndOfTheContextCutsChecksShortAndJudgesNobody(t *testing.T) {
	one := target(80)
	check(t, map[model.Target]string{one: "s"}, func(c *Checker, b *backends, _ *atomic.Int32) {
		c.Change(set(one))
		for b.running.Load() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		c.Change(map[model.Target]bool{one: false})
		synctest.Wait()
		if b.running.Load() != 0 {
			t.Error("a check of what is not wanted any more goes on")
		}
		c.Change(set(one))
		for b.running.Load() == 0 {
			time.Sleep(10 * time.Millisecond)
		}
		t.Cleanup(func() {
			if b.running.Load() != 0 || c.Verdict(one).Down {
				t.Errorf("after Run: %d checks under way, verdict %+v", b.running.Load(), c.Verdict(one))
			}
		})
	})
}
