package announce

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"

	"github.com/fairlead/fairlead/pkg/model"
)

// must fails the test where a frame cannot be built.
func must(t *testing.T) func(frame []byte, err error) []byte {
	return func(frame []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
}

var addr4, addr6 = netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("fd00::100")

func TestWhatIsHeardOfAnAddress(t *testing.T) {
	frame := must(t)
	advertised := frame(advertisement(addr6, otherMAC, false))
	copy(advertised[6:], ownMAC) // a proxy's frame: neighbours take the address in the option
	neighbour := netip.MustParseAddr("fd00::9")
	router := frame(icmpFrame(&ndp.NeighborSolicitation{TargetAddress: addr6}, neighbour, allNodes, otherMAC, groupMAC(allNodes)))
	request := frame(arpFrame(arp.OperationRequest, addr4, otherMAC, netip.MustParseAddr("10.0.0.9"), zeroMAC, broadcast))
	gratuitousRequest := frame(gratuitous(arp.OperationRequest, addr4, otherMAC, zeroMAC))
	gratuitousReply := frame(gratuitous(arp.OperationReply, addr4, otherMAC, otherMAC))
	ping := slices.Clone(advertised)
	ping[atICMP] = 128
	routed := slices.Clone(advertised)
	routed[atHopLimit] = 254
	for name, c := range map[string]struct {
		frame  []byte
		filter []bpf.Instruction
		passes bool
		addr   netip.Addr
		asking bool
	}{
		"a gratuitous ARP request":      {gratuitousRequest, arpFilter, true, addr4, false},
		"a gratuitous ARP reply":        {gratuitousReply, arpFilter, true, addr4, false},
		"an ARP request for another":    {request, arpFilter, true, addr4, false},
		"an answer to an ARP probe":     {frame(answer(addr4, otherMAC, ownMAC)), arpFilter, true, addr4, false},
		"an ARP probe":                  {frame(question(addr4, otherMAC)), arpFilter, true, addr4, true},
		"a neighbour advertisement":     {advertised, ndpFilter, true, addr6, false},
		"a solicitation of DAD":         {frame(question(addr6, otherMAC)), ndpFilter, true, addr6, true},
		"a solicitation of a neighbour": {frame: router, filter: ndpFilter},
		"another ICMPv6 message":        {frame: ping, filter: ndpFilter},
		"one that a router sent on":     {frame: routed, filter: ndpFilter},
	} {
		t.Run(name, func(t *testing.T) {
			if passes := passes(t, c.filter, c.frame); passes != c.passes {
				t.Fatalf("the filter lets it pass: %v, want %v", passes, c.passes)
			}
			if !c.passes {
				return
			}
			e := newEars(func() {})
			e.watch([]model.Binding{{Addr: c.addr, Interface: "eth0"}})
			e.hear("eth1", c.frame)
			if got := e.take(); len(got) != 0 {
				t.Errorf("heard %v on an interface where nobody listens for it", got)
			}
			e.hear("eth0", c.frame)
			want := heard{binding: model.Binding{Addr: c.addr, Interface: "eth0"}, mac: hardware(otherMAC), asking: c.asking}
			got := e.take()
			if _, ok := got[want]; len(got) != 1 || !ok {
				t.Errorf("heard %v, want %v", got, want)
			}
			e.ignore([]model.Binding{{Addr: c.addr, Interface: "eth0"}})
			if e.hear("eth0", c.frame); e.take() != nil {
				t.Error("heard what nobody listens for any more")
			}
		})
	}
}

// passes runs a filter. The virtual machine knows no packet types: every frame is for this host.
func passes(t *testing.T, filter []bpf.Instruction, frame []byte) bool {
	t.Helper()
	filter = slices.Clone(filter)
	for i, step := range filter {
		if step == (bpf.LoadExtension{Num: bpf.ExtType}) {
			filter[i] = bpf.LoadConstant{Dst: bpf.RegA, Val: 0}
		}
	}
	vm, err := bpf.NewVM(filter)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

func FuzzHear(f *testing.F) {
	for _, addr := range []netip.Addr{addr4, addr6} {
		for _, build := range []func() ([]byte, error){
			func() ([]byte, error) { return question(addr, otherMAC) },
			func() ([]byte, error) { all, err := frames(addr, otherMAC, false); return all[0], err },
		} {
			frame, err := build()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(frame)
		}
	}
	e := newEars(func() {})
	e.watch([]model.Binding{{Addr: addr4, Interface: "eth0"}, {Addr: addr6, Interface: "eth0"}})
	f.Fuzz(func(t *testing.T, frame []byte) {
		e.hear("eth0", frame)
		for h := range e.take() {
			if h.binding.Addr != addr4 && h.binding.Addr != addr6 {
				t.Errorf("heard of %v, which nobody watches", h.binding)
			}
		}
	})
}

// says has the other host send a frame to all.
func (a *Announcer) says(t *testing.T, frame []byte) {
	t.Helper()
	a.ears.hear("eth0", frame)
	synctest.Wait()
}

func TestProbeFindsWhoAnswersOrAsksToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, stop := run(Config{})
		defer stop()
		frame := must(t)
		free, used, wanted, own := on("eth0", "10.0.0.1"), on("eth0", "10.0.0.2"), on("eth0", "fd00::3"), on("eth0", "10.0.0.4")
		go func() {
			time.Sleep(10 * ms)
			a.says(t, frame(answer(used.Addr, otherMAC, ownMAC)))
			a.says(t, frame(question(wanted.Addr, otherMAC)))
			a.says(t, frame(answer(own.Addr, ownMAC, ownMAC)))
		}()
		found, err := a.Probe(t.Context(), []model.Binding{free, used, wanted, own})
		if err != nil {
			t.Fatal(err)
		}
		at := w.start.Add(10 * ms)
		want := map[netip.Addr]Sighting{
			used.Addr:   {Addr: used.Addr, Interface: "eth0", MAC: otherMAC.String(), At: at},
			wanted.Addr: {Addr: wanted.Addr, Interface: "eth0", MAC: otherMAC.String(), Asking: true, At: at},
		}
		if diff := cmp.Diff(want, found, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("found (-want +got):\n%s", diff)
		}
		if took := time.Since(w.start); took != 200*ms {
			t.Errorf("it took %s", took)
		}
		for _, b := range []model.Binding{free, used, wanted, own} {
			if diff := cmp.Diff([]time.Duration{0, 60 * ms, 120 * ms}, w.asked(b)); diff != "" {
				t.Errorf("asked for %s (-want +got):\n%s", b.Addr, diff)
			}
			if sent := w.sent(b); len(sent) > 0 {
				t.Errorf("%s was announced at %v", b.Addr, sent)
			}
		}
		a.says(t, frame(answer(used.Addr, otherMAC, ownMAC)))
		if len(a.ears.watched) != 0 {
			t.Errorf("still listens for %v", a.ears.watched)
		}
	})
}

func TestProbeEndsWithItsContextAndWithRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _, stop := run(Config{})
		ctx, cancel := context.WithTimeout(t.Context(), 10*ms)
		defer cancel()
		if _, err := a.Probe(ctx, []model.Binding{on("eth0", "10.0.0.1")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		go func() {
			time.Sleep(10 * ms)
			stop()
		}()
		if _, err := a.Probe(t.Context(), []model.Binding{on("eth0", "10.0.0.1")}); !errors.Is(err, errEnded) {
			t.Errorf("the error is %v", err)
		}
	})
}

func TestProbeSaysWhereItCouldNotAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, stop := run(Config{})
		defer stop()
		w.set(func() { w.err = errors.New("eth0 is down") })
		found, err := a.Probe(t.Context(), []model.Binding{on("eth0", "10.0.0.1"), on("eth0", "10.0.0.2")})
		if err == nil || strings.Count(err.Error(), "eth0 is down") != 1 || len(found) != 0 {
			t.Errorf("found %v, error %v", found, err)
		}
	})
}

func TestSightingsOfWhatIsAnnouncedAreToldOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []Sighting
		a, w, stop := run(Config{Seen: func(s Sighting) { seen = append(seen, s) }})
		defer stop()
		frame := must(t)
		a.Set([]model.Binding{on("eth0", "10.0.0.100"), on("eth0", "fd00::100")})
		pass(0)
		for range 15 { // of 100 ms each
			a.says(t, frame(gratuitous(arp.OperationRequest, addr4, otherMAC, zeroMAC)))
			a.says(t, frame(gratuitous(arp.OperationRequest, addr4, ownMAC, zeroMAC)))
			a.says(t, frame(gratuitous(arp.OperationRequest, netip.MustParseAddr("10.0.0.101"), otherMAC, zeroMAC)))
			pass(100 * ms)
		}
		a.says(t, frame(advertisement(addr6, otherMAC, false)))
		want := []Sighting{
			{Addr: addr4, Interface: "eth0", MAC: otherMAC.String(), At: w.start},
			{Addr: addr4, Interface: "eth0", MAC: otherMAC.String(), At: w.start.Add(time.Second)},
			{Addr: addr6, Interface: "eth0", MAC: otherMAC.String(), At: w.start.Add(1500 * ms)},
		}
		if diff := cmp.Diff(want, seen, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("seen (-want +got):\n%s", diff)
		}
	})
}

func TestDefenceIsOneAnnouncementInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, stop := run(Config{})
		defer stop()
		vip := on("eth0", "10.0.0.100")
		a.Defend(vip) // nobody has the right to it yet
		a.Set([]model.Binding{vip})
		pass(5 * time.Second)
		scheduled := len(w.sent(vip))
		for range 95 {
			a.Defend(vip)
			pass(100 * ms)
		}
		if got := w.sent(vip)[scheduled:]; !slices.Equal(got, []time.Duration{5 * time.Second}) {
			t.Errorf("within 9.5 s defended at %v, want once, at 5 s", got)
		}
		pass(time.Second)
		a.Defend(vip)
		pass(0)
		if got := w.sent(vip)[scheduled:]; len(got) != 2 {
			t.Errorf("after 10.5 s defended at %v, want twice", got)
		}
	})
}

func TestEveryRefreshAsksWhoElseHasTheAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, w, stop := run(Config{})
		defer stop()
		vip := on("eth0", "10.0.0.100")
		a.Set([]model.Binding{vip})
		pass(2 * time.Minute)
		if diff := cmp.Diff(w.sent(vip)[burst-1:], w.asked(vip)); diff != "" {
			t.Errorf("asked at other times than the last of the burst and the refreshes (-want +got):\n%s", diff)
		}
	})
}

func TestAnnouncedAddressesAreDefendedAgainstARPProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		allowed := true
		a, w, stop := run(Config{Allowed: func(netip.Addr) bool { return allowed }})
		defer stop()
		frame := must(t)
		vip := on("eth0", "10.0.0.100")
		a.Set([]model.Binding{vip})
		pass(0)
		a.says(t, frame(question(addr4, otherMAC)))
		a.says(t, frame(question(netip.MustParseAddr("10.0.0.101"), otherMAC)))
		allowed = false
		a.says(t, frame(question(addr4, otherMAC)))
		if want := []heard{{binding: vip, mac: hardware(otherMAC), asking: true}}; !slices.Equal(w.answers, want) {
			t.Errorf("answered %v, want %v", w.answers, want)
		}
	})
}
