package speaker

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/nft"
)

// count is how many backends the kernel has of a VIP's server.
func (f *fakes) count(t *testing.T, addr netip.Addr) int {
	t.Helper()
	servers, err := f.servers.Servers()
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range servers {
		if server.Addr == addr {
			return len(server.Backends)
		}
	}
	t.Fatalf("the kernel has no server of %s", addr)
	return 0
}

// connect gives each backend of some servers a connection.
func (f *fakes) connect(servers ...model.Server) {
	for _, server := range servers {
		for _, backend := range server.Backends {
			f.servers.Connect(server.Frontend, backend.Addr, 1)
		}
	}
}

// mixed is a state with a backend of vip4 for each way of forwarding: masqueraded as the node, as the VIP, and sent as they are.
func mixed(state model.NodeState) model.NodeState {
	vips := server(vip4, 80, "10.87.1.1:80", "10.87.1.2:80", "10.244.1.2:80")
	vips.Backends[1].Forwarding = model.Direct
	state.Servers[0] = vips
	state.Translations = []model.Translation{{VIP: vip4, Proto: model.TCP, Backend: vips.Backends[0].Addr, Source: model.FromVIP}}
	return state
}

// TestAVIPThatWasLetGoIsForgotten: what its connections went to as those of this node is off for a moment, and for the kernel's
// sake alone: nobody else is blamed for it, and a later look finds all as it was.
func TestAVIPThatWasLetGoIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(nft.NewFake())
		d := f.datapath()
		apply(t, d, mixed(holder()))
		f.connect(mixed(holder()).Servers...)
		outcome := apply(t, d, mixed(standby()))
		if four, six := f.count(t, vip4), f.count(t, vip6); four != 3 || six != 1 || outcome.Again != forgetAfter {
			t.Errorf("what is under way has %d and %d backends, not 3 and 1, and the next look is after %s", four, six, outcome.Again)
		}
		time.Sleep(outcome.Again)
		outcome = apply(t, d, mixed(standby()))
		if four, six := f.count(t, vip4), f.count(t, vip6); four != 2 || six != 0 {
			t.Errorf("of VIPs that were let go there are %d and %d backends, not 2 (with connections that go on) and 0", four, six)
		}
		if outcome.Again != forgetFor {
			t.Errorf("to be applied again after %s, not %s", outcome.Again, forgetFor)
		}
		if again := apply(t, d, mixed(standby())); again.Writes != 0 {
			t.Errorf("%d writes before that", again.Writes)
		}
		if damaged := d.Compare(context.Background()); damaged != "" {
			t.Errorf("%s are said to be damaged", damaged)
		}
		time.Sleep(outcome.Again)
		outcome = apply(t, d, mixed(standby()))
		if four, six := f.count(t, vip4), f.count(t, vip6); four != 3 || six != 1 || outcome.Again != 0 {
			t.Errorf("after that there are %d and %d backends, not 3 and 1, and the next look is after %s", four, six, outcome.Again)
		}
		if len(outcome.Repairs) > 0 {
			t.Errorf("told as repairs: %v", outcome.Repairs)
		}
	})
}

// TestAVIPThatComesBackIsBalancedAtOnce, before it is bound.
func TestAVIPThatComesBackIsBalancedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(nft.NewFake())
		d := f.datapath()
		apply(t, d, holder())
		f.connect(holder().Servers...)
		time.Sleep(apply(t, d, standby()).Again)
		apply(t, d, standby())
		apply(t, d, holder())
		if four, six := f.count(t, vip4), f.count(t, vip6); four != 2 || six != 1 {
			t.Errorf("the holder has %d and %d backends, not 2 and 1", four, six)
		}
	})
}

// TestAVIPThatLeftByItselfIsForgottenToo: its lifetime was over, or somebody took it off, and the right with it.
func TestAVIPThatLeftByItselfIsForgottenToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(nft.NewFake())
		d := f.datapath()
		apply(t, d, holder())
		f.connect(holder().Servers...)
		f.addresses.Unbind(holder().Bindings)
		d.DoubtAddresses()
		time.Sleep(apply(t, d, standby()).Again)
		apply(t, d, standby())
		if four := f.count(t, vip4); four != 0 {
			t.Errorf("there are %d backends, not 0", four)
		}
	})
}

// TestAVIPWithoutConnectionsHasNothingToForget: neither one that has none, nor one whose connections go on.
func TestAVIPWithoutConnectionsHasNothingToForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(nft.NewFake())
		d := f.datapath()
		apply(t, d, mixed(holder()))
		goesOn := mixed(holder()).Servers[0]
		goesOn.Backends = goesOn.Backends[:2]
		f.connect(goesOn)
		time.Sleep(apply(t, d, mixed(standby())).Again)
		if outcome := apply(t, d, mixed(standby())); outcome.Writes != 0 || outcome.Again != 0 {
			t.Errorf("%d writes, and the next look is after %s", outcome.Writes, outcome.Again)
		}
	})
}

// TestAVIPThatLeftWithoutASpeakerIsForgottenToo: it was killed, and the kernel took the VIP off. One that has no connections was not here.
func TestAVIPThatLeftWithoutASpeakerIsForgottenToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(nft.NewFake())
		apply(t, f.datapath(), holder())
		f.addresses.Unbind(holder().Bindings)
		f.connect(holder().Servers[0])
		d := f.datapath()
		outcome := apply(t, d, standby())
		if outcome.Again != forgetAfter || outcome.Writes != 0 {
			t.Errorf("%d writes, and the next look is after %s, not %s", outcome.Writes, outcome.Again, forgetAfter)
		}
		time.Sleep(outcome.Again)
		time.Sleep(apply(t, d, standby()).Again)
		if four, six := f.count(t, vip4), f.count(t, vip6); four != 0 || six != 1 {
			t.Errorf("of VIPs that left there are %d and %d backends, not 0 and 1", four, six)
		}
		apply(t, d, standby())
		if four := f.count(t, vip4); four != 2 {
			t.Errorf("after that there are %d backends, not 2", four)
		}
	})
}

// TestAnEarlierSpeakersVIPsAreRecalledInLots: thousands of questions at once would keep a takeover waiting.
func TestAnEarlierSpeakersVIPsAreRecalledInLots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(nft.NewFake())
		var many model.NodeState
		for addr := netip.MustParseAddr("10.87.240.0"); len(many.VIPs) < 2*recalledAtOnce; addr = addr.Next() {
			many.VIPs = append(many.VIPs, addr)
			many.Servers = append(many.Servers, server(addr, 80, "10.244.1.2:8080"))
		}
		apply(t, f.datapath(), many)
		f.connect(many.Servers...)
		first, last := many.VIPs[0], many.VIPs[len(many.VIPs)-1]
		d := f.datapath()
		apply(t, d, many)
		for lot, want := range [][2]int{{0, 1}, {0, 0}} {
			time.Sleep(forgetAfter)
			apply(t, d, many)
			if have := [2]int{f.count(t, first), f.count(t, last)}; have != want {
				t.Errorf("after lot %d the first and the last VIP have %v backends, not %v", lot+1, have, want)
			}
		}
	})
}

// TestWhatWasSentElsewhereIsDivertedOnce: of VIPs that this node bound, not of those that it found.
func TestWhatWasSentElsewhereIsDivertedOnce(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	apply(t, d, holder())
	restarted := f.datapath()
	apply(t, restarted, holder())
	for _, each := range []*Datapath{d, d, restarted} {
		if err := each.Divert(); err != nil {
			t.Fatal(err)
		}
	}
	if diverted := f.table.Diverted(); !slices.Equal(diverted, []netip.Addr{vip4, vip6}) {
		t.Errorf("diverted: %v", diverted)
	}
}
