package speaker

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/nft"
)

const (
	strangeMAC = "02:00:00:00:00:99"
	peerMAC    = "02:00:00:00:00:02"
)

var both = []model.Binding{{Addr: vip4, Interface: "eth0"}, {Addr: vip6, Interface: "eth0"}}

// lan is node n1, whose peer is n2, on a network with others. Time is synctest's.
type lan struct {
	*testing.T
	*conflicts
	kernel   *fakes
	events   *fakeRecorder
	metrics  *prometheus.Registry
	vips     []*v1alpha1.VIP
	notified atomic.Int32
}

func newLAN(t *testing.T) *lan {
	l := &lan{T: t, kernel: newFakes(nft.NewFake()), events: &fakeRecorder{}, metrics: prometheus.NewRegistry()}
	l.conflicts = newConflicts(Config{
		Node: "n1", Recorder: l.events, Metrics: NewMetrics(l.metrics),
		Kernel: Kernel{Addresses: l.kernel.addresses, Announcer: l.kernel.announcer},
	}, func() { l.notified.Add(1) })
	l.follow(election.Status{Speakers: map[string]election.Info{
		"n2": {Interfaces: []model.Interface{{Name: "eth0", MAC: peerMAC}}},
	}})
	for _, b := range both {
		l.vips = append(l.vips, &v1alpha1.VIP{
			ObjectMeta: metav1.ObjectMeta{Name: b.Addr.String()}, Spec: v1alpha1.VIPSpec{Address: b.Addr.String()},
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// admits fails the test unless exactly these addresses may be bound, after what was to be asked was answered.
func (l *lan) admits(want ...netip.Addr) {
	l.Helper()
	var admitted []model.Binding
	for range 2 { // the first has it asked
		var err error
		if admitted, err = l.admit(l.vips, both); err != nil {
			l.Fatal(err)
		}
		synctest.Wait()
	}
	if got := addressesOf(admitted); !slices.Equal(got, want) {
		l.Fatalf("admitted %v, want %v", got, want)
	}
}

func addressesOf(bindings []model.Binding) (addrs []netip.Addr) {
	for _, b := range bindings {
		addrs = append(addrs, b.Addr)
	}
	return addrs
}

// told are the events.
func (l *lan) told() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events.events)
}

func (l *lan) gauge(name string) float64 { return (&node{T: l.T, metrics: l.metrics}).gauge(name) }

func sighting(addr netip.Addr, mac string) announce.Sighting {
	return announce.Sighting{Addr: addr, Interface: "eth0", MAC: mac, At: time.Now()}
}

func later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestAVIPThatNobodyHeldIsAskedForBeforeItIsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		if first, err := l.admit(l.vips, both); err != nil || len(first) != 0 {
			t.Fatalf("before it was asked admitted %v, error %v", first, err)
		}
		l.admits(vip4, vip6)
		if probed := l.kernel.announcer.Probed(); len(probed) != 2 {
			t.Errorf("asked for %v, want each once", probed)
		}
		if n := l.notified.Load(); n == 0 || len(l.told()) != 0 {
			t.Errorf("%d notifications, events %v", n, l.told())
		}
	})
}

func TestFailoverDoesNotAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.vips[0].Status.Node = "n2" // which just died
		if failed := l.kernel.addresses.Bind(both[1:2], time.Minute); len(failed) > 0 {
			t.Fatal(failed)
		}
		l.follow(election.Status{Silent: map[string]time.Duration{"n2": election.DefaultTiming().TTake}})
		if admitted, err := l.admit(l.vips, both); err != nil || !slices.Equal(admitted, both) {
			t.Fatalf("admitted %v, error %v", admitted, err)
		}
		later(time.Minute)
		if probed := l.kernel.announcer.Probed(); len(probed) != 0 {
			t.Errorf("asked for %v", probed)
		}
	})
}

// TestAVIPThatNobodyHeldLatelyIsAskedFor: its status still names the node that held it, and another cluster may have taken it.
func TestAVIPThatNobodyHeldLatelyIsAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		holder string
		silent map[string]time.Duration
	}{
		"this node lost it":               {"n1", map[string]time.Duration{"n2": 0}},
		"its node was never seen to live": {"n3", map[string]time.Duration{"n2": 0}},
		"its node died long ago":          {"n2", map[string]time.Duration{"n2": heldLately}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLAN(t)
				for _, vip := range l.vips {
					vip.Status.Node = c.holder
				}
				l.follow(election.Status{Silent: c.silent})
				l.kernel.announcer.Use(sighting(vip4, strangeMAC))
				l.admits(vip6)
				if text, refused := l.message(vip4); !refused || !strings.Contains(text, strangeMAC) {
					t.Errorf("refused: %v, the message is %q", refused, text)
				}
			})
		})
	}
}

// TestAVIPThatThisNodeHadAMomentAgoIsNotAskedFor: a right that lapsed for want of an answer of the API server is back soon.
func TestAVIPThatThisNodeHadAMomentAgoIsNotAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		for gone, asked := range map[time.Duration]int{heldLately / 2: 0, heldLately: 2} {
			l.admits(vip4, vip6)
			if _, err := l.admit(l.vips, nil); err != nil {
				t.Fatal(err)
			}
			l.kernel.announcer.Probed()
			later(gone)
			l.admits(vip4, vip6)
			if probed := l.kernel.announcer.Probed(); len(probed) != asked {
				t.Errorf("after %v without them asked for %v, want %d addresses", gone, probed, asked)
			}
		}
	})
}

func TestAnAddressInUseIsNotBoundUntilItIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.kernel.announcer.Use(sighting(vip4, strangeMAC))
		l.kernel.announcer.Use(sighting(vip6, peerMAC)) // one of ours still has it: the election says who may
		l.admits(vip6)
		text, refused := l.message(vip4)
		for _, part := range []string{vip4.String(), strangeMAC, "eth0", "n1", "spec.exclude", "not announced"} {
			if !refused || !strings.Contains(text, part) {
				t.Errorf("refused: %v; the message lacks %q: %s", refused, part, text)
			}
		}
		if text, _ := l.message(vip6); text != "" {
			t.Errorf("of the other: %s", text)
		}
		if n := l.gauge("fairlead_speaker_address_conflicts"); n != 1 {
			t.Errorf("the metric says %v", n)
		}
		l.kernel.announcer.Probed()
		later(2 * time.Minute)
		if n := len(l.kernel.announcer.Probed()); n < 9 || n > 12 {
			t.Errorf("asked %d times in 2 minutes", n)
		}
		if len(l.told()) != 1 {
			t.Errorf("events %v", l.told())
		}
		l.kernel.announcer.Free(vip4)
		later(askAgainEvery - conflictLook)
		l.admits(vip6) // it may be in the middle of another cluster's failover
		before := l.notified.Load()
		later(2*(askAgainEvery+askAgainSpread+conflictLook) - askAgainEvery)
		if l.notified.Load() == before {
			t.Error("nobody is told that the address is free")
		}
		l.admits(vip4, vip6)
		if n := l.gauge("fairlead_speaker_address_conflicts"); n != 0 {
			t.Errorf("in the end the metric says %v", n)
		}
		if len(l.told()) != 2 || !strings.Contains(l.told()[1], "Normal NoConflict") {
			t.Errorf("events %v", l.told())
		}
	})
}

// TestOneThatTurnsOutToUseANewAddressGetsIt: it asked at the same time, or is there and was not heard.
func TestOneThatTurnsOutToUseANewAddressGetsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.admits(vip4, vip6)
		l.kernel.announcer.Set(both)
		asks := sighting(vip6, strangeMAC)
		asks.Asking = true
		l.see(asks) // and is answered
		l.see(sighting(vip4, strangeMAC))
		if defended := l.kernel.announcer.Defended(); len(defended) != 0 || l.notified.Load() == 0 {
			t.Errorf("defended %v, %d notifications", defended, l.notified.Load())
		}
		l.admits(vip6)
		if text, refused := l.message(vip4); !refused || !strings.Contains(text, strangeMAC) {
			t.Errorf("refused: %v, the message is %q", refused, text)
		}
		later(freeAnswers * (askAgainEvery + askAgainSpread + conflictLook)) // the other let go, too
		l.admits(vip4, vip6)
	})
}

func TestAForeignHostThatClaimsAHeldVIPIsAnsweredAndToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.admits(vip4, vip6)
		later(newFor)
		l.kernel.announcer.Set(both)
		l.see(sighting(vip4, peerMAC)) // the last announcement of the node that had it
		if text, _ := l.message(vip4); text != "" || len(l.kernel.announcer.Defended()) != 0 {
			t.Errorf("a node of the cluster makes a conflict: %s", text)
		}
		if repeated := l.kernel.announcer.Repeated(); len(repeated) != 1 || repeated[0].Addr != vip4 {
			t.Errorf("neighbours heard that node, and after it announcements of %v", repeated)
		}
		for range 50 {
			l.see(sighting(vip4, strangeMAC))
			later(time.Second)
		}
		if n := len(l.kernel.announcer.Defended()); n != 50 { // how often is for the announcer to say
			t.Errorf("defended %d times", n)
		}
		text, refused := l.message(vip4)
		if refused || !strings.Contains(text, strangeMAC) || !strings.Contains(text, "defended") {
			t.Errorf("refused: %v; the message is: %s", refused, text)
		}
		if want := []string{"10.87.2.10 Warning AddressConflict: " + text}; !slices.Equal(l.told(), want) {
			t.Errorf("events %q, want %q", l.told(), want)
		}
		l.admits(vip4, vip6) // it is not given up
		later(conflictLasts)
		if text, _ := l.message(vip4); text != "" || l.gauge("fairlead_speaker_address_conflicts") != 0 {
			t.Errorf("a minute after the last sighting: %s", text)
		}
		if len(l.told()) != 2 || !strings.Contains(l.told()[1], "Normal NoConflict") {
			t.Errorf("events %v", l.told())
		}
	})
}

func TestAForeignHostThatOnlyAsksIsToldOfAndNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.admits(vip4, vip6)
		later(newFor)
		l.kernel.announcer.Set(both)
		asks := sighting(vip6, strangeMAC)
		asks.Asking = true
		l.see(asks)
		if text, _ := l.message(vip6); !strings.Contains(text, "asks for it") || len(l.kernel.announcer.Defended()) != 0 {
			t.Errorf("the message is: %s", text)
		}
		l.see(sighting(vip6, strangeMAC))
		l.see(asks)
		if text, _ := l.message(vip6); !strings.Contains(text, "uses it") || len(l.kernel.announcer.Defended()) != 1 {
			t.Errorf("after it claimed the address the message is: %s", text)
		}
	})
}

func TestManyMACsOfOneAddressAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.admits(vip4, vip6)
		later(newFor)
		for i := range 1000 {
			l.see(sighting(vip4, "02:00:00:00:"+string(rune('a'+i/100))+string(rune('0'+i/10%10))+":0"+string(rune('0'+i%10))))
		}
		if n := len(l.told()); n != rivalsMost {
			t.Errorf("%d events, want %d", n, rivalsMost)
		}
		if text, _ := l.message(vip4); !strings.Contains(text, "13 more") || len(text) > 600 {
			t.Errorf("the message is: %s", text)
		}
	})
}

func TestAVIPThatIsHeldNoMoreIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLAN(t)
		l.kernel.announcer.Use(sighting(vip4, strangeMAC))
		l.admits(vip6)
		if _, err := l.admit(l.vips, nil); err != nil {
			t.Fatal(err)
		}
		if text, _ := l.message(vip4); text != "" || l.gauge("fairlead_speaker_address_conflicts") != 0 {
			t.Errorf("of a VIP that this node does not hold: %s", text)
		}
		l.kernel.announcer.Probed()
		later(time.Minute)
		if probed := l.kernel.announcer.Probed(); len(probed) != 0 {
			t.Errorf("asked for %v", probed)
		}
	})
}
