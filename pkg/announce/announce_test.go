package announce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/pkg/model"
)

var _ = []interface {
	Set([]model.Binding)
	Probe(context.Context, []model.Binding) (map[netip.Addr]Sighting, error)
	Defend(model.Binding)
	Repeat(model.Binding)
	Ask([]model.Binding)
	Run(context.Context)
}{(*Announcer)(nil), (*Fake)(nil)}

func on(name, addr string) model.Binding {
	return model.Binding{Addr: netip.MustParseAddr(addr), Interface: name}
}

// wire is a link that records, on synctest's clock.
type wire struct {
	start time.Time

	mu      sync.Mutex
	packets map[model.Binding][]time.Duration
	probes  map[model.Binding][]time.Duration
	answers []heard
	changed bool // at the next check
	err     error
	sendErr error
	closed  bool
}

func (w *wire) check(string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := w.changed
	w.changed = false
	return changed && w.err == nil, w.err
}

func (w *wire) send(b model.Binding, allowed func(netip.Addr) bool) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !allowed(b.Addr) || w.sendErr != nil {
		return false, w.sendErr
	}
	w.packets[b] = append(w.packets[b], time.Since(w.start))
	return true, nil
}

func (w *wire) probe(b model.Binding) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sendErr == nil {
		w.probes[b] = append(w.probes[b], time.Since(w.start))
	}
	return w.sendErr
}

func (w *wire) answer(b model.Binding, to hardware, allowed func(netip.Addr) bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if allowed(b.Addr) {
		w.answers = append(w.answers, heard{binding: b, mac: to, asking: true})
	}
	return nil
}

func (w *wire) own(mac hardware) bool { return mac == hardware(ownMAC) }

func (w *wire) close() { w.set(func() { w.closed = true }) }

// set changes what the wire does.
func (w *wire) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// asked returns when a binding was asked for.
func (w *wire) asked(b model.Binding) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.probes[b])
}

// sent returns when a binding was announced.
func (w *wire) sent(b model.Binding) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.packets[b])
}

// run starts an announcer over a wire and returns what stops it.
func run(cfg Config) (*Announcer, *wire, func()) {
	w := &wire{start: time.Now(), packets: map[model.Binding][]time.Duration{}, probes: map[model.Binding][]time.Duration{}}
	cfg.link = w
	if cfg.Allowed == nil {
		cfg.Allowed = func(netip.Addr) bool { return true }
	}
	a := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Run(ctx)
	}()
	return a, w, func() { cancel(); <-done }
}

// pass lets time pass, and everything that is due in it happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

const ms = time.Millisecond

func TestScheduleOfANewVIP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, stop := run(Config{})
		vip := on("eth0", "10.0.0.100")
		a.Set([]model.Binding{vip})
		pass(0)
		if diff := cmp.Diff([]time.Duration{0}, w.sent(vip)); diff != "" {
			t.Fatalf("at once (-want +got):\n%s", diff)
		}
		pass(10 * time.Second)
		if diff := cmp.Diff([]time.Duration{0, 1100 * ms, 2200 * ms, 3300 * ms, 4400 * ms}, w.sent(vip)); diff != "" {
			t.Fatalf("in the first 10 s (-want +got):\n%s", diff)
		}
		pass(2 * time.Minute)
		slow := w.sent(vip)[burst:]
		if first := slow[0] - 4400*ms; first < refresh/2 || first > refresh {
			t.Errorf("the first refresh came %s after the burst", first)
		}
		for i := 1; i < len(slow); i++ {
			if gap := slow[i] - slow[i-1]; gap != refresh {
				t.Errorf("a refresh came after %s, want %s", gap, refresh)
			}
		}
		stop()
		if !w.closed {
			t.Error("the sockets stay open")
		}
	})
}

func TestSetStopsAtOnceAndKeepsTheScheduleOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, stop := run(Config{})
		defer stop()
		kept, dropped, added := on("eth0", "10.0.0.1"), on("eth0", "10.0.0.2"), on("eth0", "fd00::3")
		a.Set([]model.Binding{kept, dropped})
		pass(1500 * ms)
		a.Set([]model.Binding{kept, added})
		pass(1000 * ms)
		want := map[model.Binding][]time.Duration{kept: {0, 1100 * ms, 2200 * ms}, dropped: {0, 1100 * ms}, added: {1500 * ms}}
		for b, times := range want {
			if diff := cmp.Diff(times, w.sent(b)); diff != "" {
				t.Errorf("%v (-want +got):\n%s", b, diff)
			}
		}
	})
}

func TestNothingIsSentWithoutTheRightAndABurstFollowsWhenItReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var allowed atomic.Bool
		allowed.Store(true)
		a, w, stop := run(Config{Allowed: func(netip.Addr) bool { return allowed.Load() }})
		defer stop()
		vip := on("eth0", "10.0.0.100")
		a.Set([]model.Binding{vip})
		pass(100 * ms)
		allowed.Store(false)
		pass(time.Minute)
		if len(w.sent(vip)) != 1 {
			t.Fatalf("sent without the right to: %v", w.sent(vip))
		}
		allowed.Store(true)
		pass(6 * time.Second)
		if n := len(w.sent(vip)) - 1; n != burst {
			t.Errorf("%d packets after the right came back, want %d", n, burst)
		}
	})
}

func TestAnotherMACStartsTheBurstAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, stop := run(Config{})
		defer stop()
		vips := []model.Binding{on("eth0", "10.0.0.1"), on("eth0", "10.0.0.2")}
		a.Set(vips)
		pass(6 * time.Second)
		w.set(func() { w.changed = true })
		pass(refresh + 6*time.Second)
		for _, vip := range vips {
			if n := len(w.sent(vip)); n < 2*burst || n > 2*burst+1 {
				t.Errorf("%s: %d packets, want two bursts of %d", vip.Addr, n, burst)
			}
		}
	})
}

func TestErrorsAreReportedWhenTheyBeginAndEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reports []string
		a, w, stop := run(Config{OnError: func(b model.Binding, err error) { reports = append(reports, fmt.Sprint(b.Addr, " ", err)) }})
		defer stop()
		vip := on("eth0", "10.0.0.1")
		w.set(func() { w.err = errors.New("eth0 is down") })
		a.Set([]model.Binding{vip})
		pass(time.Minute)
		w.set(func() { w.err = nil })
		pass(10 * time.Second)
		w.set(func() { w.sendErr = errors.New("no buffer space") })
		pass(2 * time.Minute)
		a.Set(nil)
		pass(time.Minute)
		want := []string{"10.0.0.1 eth0 is down", "10.0.0.1 <nil>", "10.0.0.1 no buffer space"}
		if diff := cmp.Diff(want, reports); diff != "" {
			t.Errorf("reports (-want +got):\n%s", diff)
		}
		if len(w.sent(vip)) < burst {
			t.Errorf("after the error ended: %d packets, want a burst of %d", len(w.sent(vip)), burst)
		}
	})
}

func TestThousandsOfVIPsAreAnnouncedAtOnceAndRefreshedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, stop := run(Config{})
		defer stop()
		var vips []model.Binding
		for i := range 5000 {
			vips = append(vips, model.Binding{Interface: "eth0", Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
		}
		a.Set(vips)
		pass(50 * ms)
		for _, vip := range vips {
			if len(w.sent(vip)) != 1 {
				t.Fatalf("%s was announced %d times within 50 ms", vip.Addr, len(w.sent(vip)))
			}
		}
		pass(time.Minute)
		perSecond := map[time.Duration]int{}
		for _, vip := range vips {
			for _, at := range w.sent(vip)[burst:] {
				perSecond[at.Truncate(time.Second)]++
			}
		}
		for second, n := range perSecond {
			if n > len(vips)/5 {
				t.Errorf("%d refreshes in second %s", n, second)
			}
		}
	})
}

func TestTheFakeRecords(t *testing.T) {
	a, b := on("eth0", "10.0.0.1"), on("eth0", "10.0.0.2")
	fake := NewFake(Config{Allowed: func(addr netip.Addr) bool { return addr == a.Addr }})
	fake.Set([]model.Binding{a, b})
	fake.Set([]model.Binding{a, b})
	if got := fake.Packets(); !slices.Equal(got, []model.Binding{a}) {
		t.Errorf("packets %v", got)
	}
	if got := fake.Announced(); !slices.Equal(got, []model.Binding{a, b}) {
		t.Errorf("announced %v", got)
	}
}
