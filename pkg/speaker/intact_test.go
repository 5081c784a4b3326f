package speaker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
)

func (f *fakes) change(t *testing.T, changes ...ipvs.Change) {
	t.Helper()
	if _, err := f.servers.Apply(changes); err != nil {
		t.Fatal(err)
	}
}

func TestWhatOthersUndoIsNoticedDoneAgainAndToldAsRepairs(t *testing.T) {
	three := holder()
	three.Servers = slices.Insert(three.Servers, 1, server(vip4, 443, "10.244.1.2:8443"))
	remove := func(servers ...model.Server) func(*testing.T, *fakes) {
		return func(t *testing.T, f *fakes) {
			for _, s := range servers {
				f.change(t, ipvs.Change{Op: ipvs.DeleteServer, Frontend: s.Frontend})
			}
		}
	}
	for name, test := range map[string]struct {
		damage func(*testing.T, *fakes)
		looks  layer // what Look says; "": Compare finds it
		finds  layer // what Compare says, if not the same
		want   string
	}{
		"all IPVS services":             {damage: remove(three.Servers...), looks: layerIPVS, want: "ipvs"},
		"those of one family":           {damage: remove(three.Servers[2]), looks: layerIPVS, want: "ipvs"},
		"one in the middle of the list": {damage: remove(three.Servers[1]), looks: layerIPVS, want: "ipvs"},
		"a backend": {finds: layerIPVS, want: "ipvs", damage: func(t *testing.T, f *fakes) {
			s := three.Servers[0]
			f.change(t, ipvs.Change{Op: ipvs.DeleteBackend, Frontend: s.Frontend, Backend: s.Backends[0]})
		}},
		"a weight": {finds: layerIPVS, want: "ipvs", damage: func(t *testing.T, f *fakes) {
			s := three.Servers[0]
			s.Backends[0].Weight = 9
			f.change(t, ipvs.Change{Op: ipvs.EditBackend, Frontend: s.Frontend, Backend: s.Backends[0]})
			s.Backends[0].Weight = 1
		}},
		"the nftables table": {damage: func(_ *testing.T, f *fakes) { f.table.Vanish() }, looks: layerNFTables, want: "nftables"},
		"an element of a set": {finds: layerNFTables, want: "nftables", damage: func(t *testing.T, f *fakes) {
			if err := f.table.Apply(t.Context(), nft.State{}, nft.State{VIPs: three.VIPs}); err != nil {
				t.Fatal(err)
			}
		}},
		"everything": {looks: layerNFTables, want: "ipvs nftables", damage: func(t *testing.T, f *fakes) {
			f.table.Vanish()
			remove(three.Servers...)(t, f)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakes(nft.NewFake())
			d := f.datapath()
			if outcome := apply(t, d, three); len(outcome.Repairs) != 0 || d.Look() != "" {
				t.Fatalf("after the first Apply repairs are %v", outcome.Repairs)
			}
			test.damage(t, f)
			d.nextDump = d.nextDump.AddDate(0, 0, -1)
			if got := d.Look(); got != test.looks {
				t.Errorf("Look says %q, want %q", got, test.looks)
			}
			damaged := d.Compare(t.Context())
			if want := cmp.Or(test.finds, test.looks); damaged != want {
				t.Errorf("Compare says %q, want %q", damaged, want)
			}
			if damaged == layerIPVS {
				d.Doubt()
			} else {
				d.Distrust()
			}
			outcome := apply(t, d, three)
			if got := named(outcome.Repairs); got != test.want {
				t.Errorf("repaired: %q, want %q", got, test.want)
			}
			servers, _ := f.servers.Servers()
			if !slices.EqualFunc(servers, three.Servers, model.Server.Equal) || !slices.Equal(f.table.State().VIPs, three.VIPs) || d.Look() != "" || d.Compare(t.Context()) != "" {
				t.Errorf("afterwards there are IPVS services %v and VIPs %v", servers, f.table.State().VIPs)
			}
			d.Distrust()
			if outcome := apply(t, d, three); len(outcome.Repairs) != 0 || outcome.Writes != 0 {
				t.Errorf("the next time repairs are %v, in %d writes", outcome.Repairs, outcome.Writes)
			}
		})
	}
}

func named(repairs Repairs) string {
	var out []string
	for _, of := range slices.Sorted(maps.Keys(repairs)) {
		out = append(out, string(of))
	}
	return strings.Join(out, " ")
}

func TestWorkIsNoRepair(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	apply(t, d, standby())
	d.Distrust()
	more := holder()
	more.Servers = append(more.Servers, server(vip6, 443, "[fd00:244:1::2]:8443"))
	if outcome := apply(t, d, more); len(outcome.Repairs) != 0 || outcome.Writes == 0 {
		t.Errorf("another plan gave repairs %v in %d writes", outcome.Repairs, outcome.Writes)
	}
	if outcome := apply(t, f.datapath(), standby()); len(outcome.Repairs) != 0 {
		t.Errorf("a new speaker, which knows of no past, gave repairs %v", outcome.Repairs)
	}
}

func TestAVIPThatSomebodyRemovedIsBoundAgain(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	want := holder()
	apply(t, d, want)
	refresh := func(repaired string, complete bool) {
		t.Helper()
		repairs, there, err := d.Refresh()
		if named(repairs) != repaired || there != complete || err != nil {
			t.Errorf("refreshing repaired %q, and all were there: %v, error %v; want %q, %v", named(repairs), there, err, repaired, complete)
		}
		if !slices.Equal(f.bound(t), want.Bindings) {
			t.Errorf("bound are %v", f.bound(t))
		}
	}
	remove := func() {
		t.Helper()
		if failed := f.addresses.Unbind(want.Bindings[:1]); len(failed) > 0 {
			t.Fatal(failed)
		}
	}
	refresh("", true)
	remove()
	refresh("addresses", false) // even while an Apply works
	if got := named(apply(t, d, want).Repairs); got != "" {
		t.Errorf("repaired a second time: %q", got)
	}
	remove()
	d.DoubtAddresses()
	if got := named(apply(t, d, want).Repairs); got != "addresses" {
		t.Errorf("repaired: %q", got)
	}
	refresh("", true)
	d.livesUntil = d.livesUntil.AddDate(0, 0, -1)
	remove()
	if repairs, _, err := d.Refresh(); len(repairs) != 0 || err != nil || len(f.bound(t)) == len(want.Bindings) {
		t.Errorf("a VIP whose lifetime ended was bound again without a plan: repairs %v, error %v", repairs, err)
	}
	if got := named(apply(t, d, want).Repairs); got != "" {
		t.Errorf("a VIP whose lifetime ended counts as removed by somebody: %q", got)
	}
}

// tunable are sysctls that somebody may change.
type tunable struct{ wrong []string }

func (s *tunable) Apply() (changed []string, err error) {
	changed, s.wrong = s.wrong, nil
	return changed, nil
}

func (s *tunable) Receive() ([]string, error) { return nil, nil }

func TestSysctlsThatSomebodyChangedAreSetAgain(t *testing.T) {
	sysctls := &tunable{wrong: []string{"net.ipv4.ip_forward"}}
	f := newFakes(nft.NewFake())
	d := NewDatapath(Kernel{
		Sysctls: sysctls, Table: f.table, Servers: f.servers, Addresses: f.addresses, Announcer: f.announcer,
	}, f.datapath().right)
	if repairs, err := d.MendSysctls(); len(repairs) != 0 || err != nil || len(sysctls.wrong) == 0 {
		t.Errorf("before the first Apply: repairs %v, error %v", repairs, err)
	}
	if outcome := apply(t, d, holder()); len(outcome.Repairs) != 0 || len(sysctls.wrong) != 0 {
		t.Errorf("the first Apply: repairs %v, still wrong %v", outcome.Repairs, sysctls.wrong)
	}
	sysctls.wrong = []string{"net.ipv4.vs.conntrack"}
	repairs, err := d.MendSysctls()
	if want := (Repairs{layerSysctls: {count: 1, example: "net.ipv4.vs.conntrack"}}); !maps.Equal(repairs, want) || err != nil {
		t.Errorf("repairs %v, error %v; want %v", repairs, err, want)
	}
}

// TestTheRecordOutlivesItsTable: what was ours before somebody deleted the table is ours still, and goes when it is not wanted.
func TestTheRecordOutlivesItsTable(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	apply(t, d, holder())
	f.table.Vanish()
	d.Distrust()
	apply(t, d, model.NodeState{})
	if servers, _ := f.servers.Servers(); len(servers) != 0 || len(f.bound(t)) != 0 {
		t.Errorf("left are %v and %v", servers, f.bound(t))
	}
}

type nodeRecorder struct{ events []string }

func (r *nodeRecorder) Event(object runtime.Object, kind, reason, message string) {
	r.events = append(r.events, fmt.Sprintf("%s %s %s %s", object.(*corev1.Node).UID, kind, reason, message))
}

func TestRepairsAreCountedEachTimeAndAreAnEventNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry, recorder, kernel := prometheus.NewRegistry(), &nodeRecorder{}, newFakes(nft.NewFake())
		b := newBlame(Config{
			Node: "n1", Recorder: recorder, Metrics: NewMetrics(registry), Kernel: Kernel{Addresses: kernel.addresses},
		}, func() []*corev1.Node {
			return []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "uid-1"}}}
		})
		for range 5 {
			b.tell(context.Background(), Repairs{layerIPVS: {count: 2}})
		}
		b.tell(context.Background(), Repairs{layerNFTables: {count: 1}})
		if len(recorder.events) != 2 || !strings.HasPrefix(recorder.events[0], "uid-1 Warning Repaired node n1: ") {
			t.Errorf("5 repairs of one layer and one of another made events %q", recorder.events)
		}
		if n := counted(t, registry, "ipvs"); n != 5 {
			t.Errorf("the metric says %v", n)
		}
		kernel.addresses = netif.NewFake(netif.Interface{Name: proxyInterface})
		b.config.Kernel.Addresses = kernel.addresses
		time.Sleep(blameEvery) // of synctest's clock
		b.tell(context.Background(), Repairs{layerIPVS: {count: 2}})
		if len(recorder.events) != 3 || !strings.Contains(recorder.events[2], "--ipvs-exclude-cidrs") {
			t.Errorf("a minute later, beside kube-proxy in ipvs mode, events are %q", recorder.events)
		}
	})
}

// counted is how many repairs of a layer the metric tells of.
func counted(t *testing.T, registry *prometheus.Registry, layer string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "fairlead_speaker_repairs_total" && metric.GetLabel()[0].GetValue() == layer {
				return metric.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("no metric tells of repairs of %s", layer)
	return 0
}

// slowTable is a table that is found damaged, once it may be.
type slowTable struct {
	*nft.Fake
	reading, may chan struct{}
}

func (s slowTable) Verify(context.Context, nft.State) (bool, error) {
	close(s.reading)
	<-s.may
	return false, nil
}

// TestATakeoverDoesNotWaitForAComparison, and what was compared with the plan before it counts for nothing.
func TestATakeoverDoesNotWaitForAComparison(t *testing.T) {
	f := newFakes(nft.NewFake())
	d := f.datapath()
	table := slowTable{f.table, make(chan struct{}), make(chan struct{})}
	d.kernel.Table = table
	apply(t, d, standby())
	damaged := make(chan layer)
	go func() { damaged <- d.Compare(t.Context()) }()
	<-table.reading
	if outcome := apply(t, d, holder()); len(outcome.Bound) != len(holder().Bindings) {
		t.Errorf("bound are %v", outcome.Bound)
	}
	close(table.may)
	if got := <-damaged; got != "" {
		t.Errorf("Compare says %q of what was wanted before", got)
	}
}
