package speaker

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/host"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
)

var (
	vip4    = netip.MustParseAddr("10.87.2.10")
	vip6    = netip.MustParseAddr("fd87::2:10")
	foreign = netip.MustParseAddr("10.87.9.9")
)

type fakes struct {
	sysctls   *host.Fake
	table     *nft.Fake
	servers   *ipvs.Fake
	addresses *netif.Fake
	announcer *announce.Fake
	right     time.Duration
}

func newFakes(table *nft.Fake, servers ...model.Server) *fakes {
	eth0 := netif.Interface{Name: "eth0", Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.87.0.0/16")}}
	return &fakes{
		sysctls: host.NewFake(), table: table, servers: ipvs.NewFake(servers...), addresses: netif.NewFake(eth0),
		announcer: announce.NewFake(announce.Config{Allowed: func(netip.Addr) bool { return true }}), right: 3 * time.Second,
	}
}

func (f *fakes) datapath() *Datapath {
	return NewDatapath(Kernel{
		Sysctls: f.sysctls, Table: f.table, Servers: f.servers, Addresses: f.addresses, Announcer: f.announcer,
	}, func() time.Duration { return f.right })
}

func (f *fakes) bound(t *testing.T) []model.Binding {
	t.Helper()
	bound, err := f.addresses.Bound()
	if err != nil {
		t.Fatal(err)
	}
	return bound
}

func server(addr netip.Addr, port uint16, backends ...string) model.Server {
	s := model.Server{Frontend: model.Frontend{Addr: addr, Port: port, Proto: model.TCP}, Scheduler: model.MaglevByPort}
	for _, text := range backends {
		s.Backends = append(s.Backends, model.Backend{Addr: netip.MustParseAddrPort(text), Weight: 1})
	}
	return s
}

// standby is what a node has that may come to hold both VIPs, holder what it has then.
func standby() model.NodeState {
	return model.NodeState{
		VIPs: []netip.Addr{vip4, vip6},
		Servers: []model.Server{
			server(vip4, 80, "10.244.1.2:8080", "10.244.2.2:8080"), server(vip6, 80, "[fd00:244:1::2]:8080"),
		},
	}
}

func holder() model.NodeState {
	state := standby()
	state.Bindings = []model.Binding{{Addr: vip4, Interface: "eth0"}, {Addr: vip6, Interface: "eth0"}}
	return state
}

func apply(t *testing.T, d *Datapath, want model.NodeState) Outcome {
	t.Helper()
	outcome, err := d.Apply(context.Background(), want, true)
	if err != nil {
		t.Fatal(err)
	}
	return outcome
}

func TestAHolderHasAllLayersAndAStandbyAllButTheAddress(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	apply(t, d, standby())
	if bound := f.bound(t); len(bound) != 0 {
		t.Errorf("a standby has bound %v", bound)
	}
	if servers, _ := f.servers.Servers(); len(servers) != 2 {
		t.Errorf("a standby has %d IPVS services, not 2", len(servers))
	}
	outcome := apply(t, d, holder())
	if bound := f.bound(t); !slices.Equal(bound, holder().Bindings) || !slices.Equal(outcome.Bound, bound) {
		t.Errorf("the holder has bound %v and reports %v", bound, outcome.Bound)
	}
	if announced := f.announcer.Announced(); !slices.Equal(announced, holder().Bindings) {
		t.Errorf("the holder announces %v", announced)
	}
	apply(t, d, standby())
	if bound, announced := f.bound(t), f.announcer.Announced(); len(bound)+len(announced) != 0 {
		t.Errorf("after losing the VIPs %v is bound and %v announced", bound, announced)
	}
	if asked := f.announcer.Asked(); !slices.Equal(asked, holder().Bindings) {
		t.Errorf("after losing the VIPs it asks for %v", asked)
	}
}

func TestNothingChangedNothingWritten(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	apply(t, d, holder())
	if outcome := apply(t, d, holder()); outcome.Writes != 0 {
		t.Errorf("the same state again made %d writes", outcome.Writes)
	}
	d.Distrust()
	if outcome := apply(t, d, holder()); outcome.Writes != 0 {
		t.Errorf("reading everything again made %d writes", outcome.Writes)
	}
}

func TestARestartKeepsWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakes(nft.NewFake())
		d := f.datapath()
		time.Sleep(apply(t, d, holder()).Again)
		apply(t, d, holder())
		restarted := f.datapath()
		before, err := restarted.Apply(context.Background(), standby(), false)
		if err != nil {
			t.Fatal(err)
		}
		if bound := f.bound(t); !slices.Equal(bound, holder().Bindings) {
			t.Fatalf("before the election is known %v is left of what was bound", bound)
		}
		if outcome := apply(t, restarted, holder()); before.Writes+outcome.Writes != 0 {
			t.Errorf("adopting what is there made %d and %d writes", before.Writes, outcome.Writes)
		}
	})
}

func TestAVIPThatIsGoneLeavesNothing(t *testing.T) {
	for name, restart := range map[string]func(*Datapath, *fakes) *Datapath{
		"while the speaker runs": func(d *Datapath, _ *fakes) *Datapath { return d },
		"while it was away":      func(_ *Datapath, f *fakes) *Datapath { return f.datapath() },
		"while it was away, and it looked before the election was known": func(_ *Datapath, f *fakes) *Datapath {
			d := f.datapath()
			if _, err := d.Apply(context.Background(), model.NodeState{}, false); err != nil {
				t.Fatal(err)
			}
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(nft.NewFake())
			d := f.datapath()
			apply(t, d, holder())
			apply(t, restart(d, f), model.NodeState{})
			servers, _ := f.servers.Servers()
			owned, _ := f.table.Owned(context.Background())
			if bound := f.bound(t); len(bound)+len(servers)+len(owned) != 0 {
				t.Errorf("left are addresses %v, services %v, record %v", bound, servers, owned)
			}
		})
	}
}

// TestManyVIPsAreAnnouncedAsTheyAreBound: the first of them do not wait for the last.
func TestManyVIPsAreAnnouncedAsTheyAreBound(t *testing.T) {
	f := newFakes(nft.NewFake())
	var want model.NodeState
	for i := range 4 * boundAtOnce {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		want.VIPs = append(want.VIPs, addr)
		want.Bindings = append(want.Bindings, model.Binding{Addr: addr, Interface: "eth0"})
	}
	most := 0 // that were bound before they were announced
	f.addresses.FailOn(func(b model.Binding) error {
		most = max(most, slices.Index(want.Bindings, b)+1-len(f.announcer.Announced()))
		return nil
	})
	outcome := apply(t, f.datapath(), want)
	if most != boundAtOnce {
		t.Errorf("%d VIPs were bound before one of them was announced, want %d", most, boundAtOnce)
	}
	if announced := f.announcer.Announced(); !slices.Equal(announced, want.Bindings) || !slices.Equal(outcome.Bound, want.Bindings) {
		t.Errorf("%d of %d VIPs are bound and %d announced", len(outcome.Bound), len(want.Bindings), len(announced))
	}
}

func TestWhatIsNotOursStays(t *testing.T) {
	theirs := server(foreign, 443, "10.0.0.5:443")
	f := newFakes(nft.NewFake(), theirs)
	if failed := f.addresses.Bind([]model.Binding{{Addr: foreign, Interface: "eth0"}}, time.Hour); len(failed) > 0 {
		t.Fatal(failed)
	}
	d := f.datapath()
	apply(t, d, holder())
	apply(t, d, model.NodeState{})
	if servers, _ := f.servers.Servers(); len(servers) != 1 || !servers[0].Equal(theirs) {
		t.Errorf("IPVS services left: %v, want the foreign one", servers)
	}
	if bound := f.bound(t); len(bound) != 1 || bound[0].Addr != foreign {
		t.Errorf("addresses left: %v, want the foreign one", bound)
	}
}

func TestAVIPWhoseLowerLayerFailedIsNotAnnounced(t *testing.T) {
	f := newFakes(nft.NewFake())
	broken := errors.New("broken")
	f.servers.FailOn(func(c ipvs.Change) error {
		if c.Frontend.Addr == vip4 {
			return broken
		}
		return nil
	})
	d := f.datapath()
	outcome, err := d.Apply(context.Background(), holder(), true)
	if !errors.Is(err, broken) || !errors.Is(outcome.Failed[vip4], broken) {
		t.Fatalf("error %v, failed %v", err, outcome.Failed)
	}
	if announced := f.announcer.Announced(); len(announced) != 1 || announced[0].Addr != vip6 {
		t.Errorf("announced: %v, want only the VIP that is whole", announced)
	}
	f.servers.FailOn(nil)
	if outcome := apply(t, d, holder()); len(outcome.Bound) != 2 {
		t.Errorf("after the layer was mended bound are %v", outcome.Bound)
	}
}

func TestWhatWasWorkingKeepsWorkingWhenALayerFails(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	apply(t, d, holder())
	f.table.FailWith(errors.New("nft is gone"))
	changed := holder()
	changed.Servers = append(changed.Servers, server(vip6, 443, "[fd00:244:1::2]:8443"))
	outcome, err := d.Apply(context.Background(), changed, true)
	if err == nil {
		t.Fatal("the failure was not reported")
	}
	if len(outcome.Bound) != 2 || len(f.announcer.Announced()) != 2 {
		t.Errorf("bound %v, announced %v", outcome.Bound, f.announcer.Announced())
	}
}

func TestANewPortOpensOnlyWhenItsServerIsThere(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	apply(t, d, holder())
	f.servers.FailOn(func(ipvs.Change) error {
		ssh := model.Frontend{Addr: vip4, Port: 22, Proto: model.TCP}
		if slices.Contains(f.table.State().Frontends, ssh) {
			t.Error("port 22 was open while nothing but the host's own sshd could answer on it")
		}
		return nil
	})
	more := holder()
	more.Servers = slices.Insert(more.Servers, 0, server(vip4, 22, "10.244.1.2:2222"))
	apply(t, d, more)
	if !slices.Contains(f.table.State().Frontends, more.Servers[0].Frontend) {
		t.Error("port 22 stayed closed")
	}
}

func TestNoVIPIsBoundWithoutARight(t *testing.T) {
	f := newFakes(nft.NewFake())
	f.right = 0
	d := f.datapath()
	apply(t, d, holder())
	if bound := f.bound(t); len(bound) != 0 {
		t.Errorf("bound although the right has lapsed: %v", bound)
	}
}

// TestWhatIsLeftOutlivesASpeakerThatHardlyBegan: one that is told to stop before it applied anything prolongs what an earlier one
// bound, and nothing else.
func TestWhatIsLeftOutlivesASpeakerThatHardlyBegan(t *testing.T) {
	f := newFakes(nft.NewFake())
	apply(t, f.datapath(), holder())
	held, other := holder().Bindings[:1], holder().Bindings[1:]
	before := f.addresses.Lifetime(other[0])
	if err := f.datapath().Leave(append(held, model.Binding{Addr: netip.MustParseAddr("192.0.2.99"), Interface: "eth0"}), time.Hour); err != nil {
		t.Fatal(err)
	}
	if got := f.addresses.Lifetime(held[0]); got != time.Hour {
		t.Errorf("%s lives for %v", held[0].Addr, got)
	}
	if got := f.addresses.Lifetime(other[0]); got != before || len(f.bound(t)) != len(holder().Bindings) {
		t.Errorf("%s, which is not held, lives for %v; bound are %v", other[0].Addr, got, f.bound(t))
	}
}

func TestALifetimeNeverOutlastsTheRightByMoreThanASecond(t *testing.T) {
	for right, want := range map[time.Duration]time.Duration{
		2900 * time.Millisecond: 2 * time.Second, 400 * time.Millisecond: time.Second,
	} {
		f := newFakes(nft.NewFake())
		f.right = right
		apply(t, f.datapath(), holder())
		if got := f.addresses.Lifetime(holder().Bindings[0]); got != want {
			t.Errorf("with a right of %v the VIP is bound for %v, want %v", right, got, want)
		}
	}
}

func TestCleanupRemovesWhatIsOurs(t *testing.T) {
	theirs := server(foreign, 443, "10.0.0.5:443")
	f := newFakes(nft.NewFake(), theirs)
	apply(t, f.datapath(), holder())
	removed, err := Cleanup(context.Background(), f.table, f.servers, f.addresses)
	if err != nil || len(removed) != 5 {
		t.Fatalf("removed %q, error %v", removed, err)
	}
	servers, _ := f.servers.Servers()
	if bound := f.bound(t); len(bound) != 0 || len(servers) != 1 {
		t.Errorf("left: %v, %v", bound, servers)
	}
}

// backend is what a node has that serves vip4 as a backend, under the VIP itself.
func backend() model.NodeState {
	return model.NodeState{
		VIPs:      []netip.Addr{vip4, vip6},
		Servers:   standby().Servers[1:],
		Receivers: []model.Receiver{{Frontend: standby().Servers[0].Frontend, Wrapped: netip.MustParseAddr("10.87.0.1")}},
	}
}

func TestABackendHasTheVIPWithAnOpenPortAndNoServer(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	apply(t, d, backend())
	if servers, _ := f.servers.Servers(); len(servers) != 1 || servers[0].Addr != vip6 {
		t.Errorf("a backend balances %v, want %s only", servers, vip6)
	}
	if got := f.addresses.Receivers(); !slices.Equal(got, backend().Receivers) {
		t.Errorf("it receives %v", got)
	}
	if table := f.table.State(); len(table.Frontends) != 2 || !slices.Equal(table.Tunnelled, []model.Frontend{backend().Receivers[0].Frontend}) {
		t.Errorf("its open ports are %v, tunnelled %v", table.Frontends, table.Tunnelled)
	}
	if outcome := apply(t, d, backend()); outcome.Writes != 0 {
		t.Errorf("the same state again made %d writes", outcome.Writes)
	}
	apply(t, d, holder())
	if servers, _ := f.servers.Servers(); len(servers) != 2 || len(f.addresses.Receivers()) != 0 || len(f.bound(t)) != 2 {
		t.Errorf("as the holder it balances %v, receives %v, has bound %v", servers, f.addresses.Receivers(), f.bound(t))
	}
}

func TestAHolderThatRestartsBalancesUntilItIsKnownWhoHolds(t *testing.T) {
	f := newFakes(nft.NewFake())
	apply(t, f.datapath(), holder())
	restarted := f.datapath()
	if _, err := restarted.Apply(context.Background(), backend(), false); err != nil {
		t.Fatal(err)
	}
	if servers, _ := f.servers.Servers(); len(servers) != 2 {
		t.Errorf("before the holder is known servers are %v, want both", servers)
	}
	apply(t, restarted, backend())
	if servers, _ := f.servers.Servers(); len(servers) != 1 {
		t.Errorf("servers are %v, want one", servers)
	}
}
