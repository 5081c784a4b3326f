package ipvs

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/pkg/model"
)

var rr = model.Scheduler{Name: "rr"}

func tcp(addrPort string) model.Frontend {
	a := netip.MustParseAddrPort(addrPort)
	return model.Frontend{Addr: a.Addr(), Port: a.Port(), Proto: model.TCP}
}

func backend(addrPort string, weight uint16) model.Backend {
	return model.Backend{Addr: netip.MustParseAddrPort(addrPort), Weight: weight}
}

func server(f model.Frontend, s model.Scheduler, backends ...model.Backend) model.Server {
	return model.Server{Frontend: f, Scheduler: s, Backends: backends}
}

func everything(netip.Addr) bool { return true }
func nothing(netip.Addr) bool    { return false }

func lines(changes []Change) []string {
	var s []string
	for _, c := range changes {
		s = append(s, c.String())
	}
	return s
}

func TestDiff(t *testing.T) {
	vip, other := tcp("10.0.0.100:80"), tcp("10.0.0.101:80")
	a, b, c := backend("10.0.0.21:8080", 1), backend("10.0.0.22:8080", 1), backend("10.0.0.23:8080", 1)
	drained := backend("10.0.0.22:8080", 0)
	tests := map[string]struct {
		want, have []model.Server
		owned      func(netip.Addr) bool
		changes    []string
	}{
		"nothing wanted and nothing there is no change": {},
		"what is as wanted is left alone": {
			want: []model.Server{server(vip, rr, a, b)}, have: []model.Server{server(vip, rr, a, b)},
		},
		"what is as wanted is left alone in any order": {
			want: []model.Server{server(other, rr), server(vip, rr, b, a)}, have: []model.Server{server(vip, rr, a, b), server(other, rr)},
		},
		"a new server is added before its backends, which are sorted": {
			want: []model.Server{server(vip, rr, b, a)},
			changes: []string{
				"add server 10.0.0.100:80/TCP scheduler rr flags 0x0",
				"add backend 10.0.0.21:8080 weight 1 of 10.0.0.100:80/TCP",
				"add backend 10.0.0.22:8080 weight 1 of 10.0.0.100:80/TCP",
			},
		},
		"another scheduler is set in place": {
			want: []model.Server{server(vip, model.MaglevByPort, a)}, have: []model.Server{server(vip, rr, a)},
			changes: []string{"edit server 10.0.0.100:80/TCP scheduler mh flags 0x18"},
		},
		"another flag is set in place": {
			want: []model.Server{server(vip, model.MaglevByPort, a)}, have: []model.Server{server(vip, model.Scheduler{Name: "mh", Flags: 8}, a)},
			changes: []string{"edit server 10.0.0.100:80/TCP scheduler mh flags 0x18"},
		},
		"a backend is replaced by adding before draining before deleting": {
			want: []model.Server{server(vip, rr, drained, c)}, have: []model.Server{server(vip, rr, a, b)},
			changes: []string{
				"add backend 10.0.0.23:8080 weight 1 of 10.0.0.100:80/TCP",
				"edit backend 10.0.0.22:8080 weight 0 of 10.0.0.100:80/TCP",
				"delete backend 10.0.0.21:8080 of 10.0.0.100:80/TCP",
			},
		},
		"a backend that drains enters the table of mh with a weight": {
			want: []model.Server{server(vip, model.MaglevByPort, a, drained)}, have: []model.Server{server(vip, model.MaglevByPort, a)},
			changes: []string{
				"add backend 10.0.0.22:8080 weight 1 of 10.0.0.100:80/TCP",
				"edit backend 10.0.0.22:8080 weight 0 of 10.0.0.100:80/TCP",
			},
		},
		"a backend that drains is added as it is for another scheduler": {
			want: []model.Server{server(vip, rr, drained)}, have: []model.Server{server(vip, rr)},
			changes: []string{"add backend 10.0.0.22:8080 weight 0 of 10.0.0.100:80/TCP"},
		},
		"a server that is ours and not wanted goes, last": {
			want: []model.Server{server(other, rr)}, have: []model.Server{server(vip, rr, a)}, owned: everything,
			changes: []string{"add server 10.0.0.101:80/TCP scheduler rr flags 0x0", "delete server 10.0.0.100:80/TCP"},
		},
		"a server that is not ours stays": {
			have: []model.Server{server(vip, rr, a)},
		},
		"a server that is wanted is changed whoever made it": {
			want: []model.Server{server(vip, rr, a)}, have: []model.Server{server(vip, rr, b)},
			changes: []string{"add backend 10.0.0.21:8080 weight 1 of 10.0.0.100:80/TCP", "delete backend 10.0.0.22:8080 of 10.0.0.100:80/TCP"},
		},
		"the same port of another protocol is another server": {
			want:    []model.Server{server(model.Frontend{Addr: vip.Addr, Port: 80, Proto: model.UDP}, rr)},
			have:    []model.Server{server(vip, rr)},
			changes: []string{"add server 10.0.0.100:80/UDP scheduler rr flags 0x0"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			owned := test.owned
			if owned == nil {
				owned = nothing
			}
			if diff := cmp.Diff(test.changes, lines(Diff(test.want, test.have, owned))); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDiffConverges applies the changes between random states: the result must be what was wanted, and a second time
// nothing may be left to do, whatever came before.
func TestDiffConverges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	fake := NewFake()
	for round := range 300 {
		want := randomServers(random)
		have, err := fake.Servers()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fake.Apply(Diff(want, have, everything)); err != nil {
			t.Fatal(err)
		}
		have, _ = fake.Servers()
		if diff := cmp.Diff(want, have, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("round %d (-want +got):\n%s", round, diff)
		}
		if again := Diff(want, have, everything); len(again) != 0 {
			t.Fatalf("round %d: the second time there is still to do: %v", round, again)
		}
	}
}

func randomServers(random *rand.Rand) []model.Server {
	var servers []model.Server
	for i := range 5 {
		if random.IntN(3) == 0 {
			continue
		}
		s := server(tcp(fmt.Sprintf("10.0.0.%d:80", 100+i)), []model.Scheduler{rr, model.MaglevByPort}[random.IntN(2)])
		for j := range 4 {
			if random.IntN(2) == 0 {
				s.Backends = append(s.Backends, backend(fmt.Sprintf("10.0.1.%d:80", j), uint16(random.IntN(3))))
			}
		}
		servers = append(servers, s)
	}
	return servers
}

func TestDiffLeavesItsArgumentsAlone(t *testing.T) {
	want := []model.Server{server(tcp("10.0.0.2:80"), rr, backend("10.0.1.2:80", 1), backend("10.0.1.1:80", 1)), server(tcp("10.0.0.1:80"), rr)}
	before := []model.Server{server(want[0].Frontend, rr, slices.Clone(want[0].Backends)...), want[1]}
	Diff(want, nil, everything)
	if !want[0].Equal(before[0]) || !want[1].Equal(before[1]) {
		t.Errorf("Diff sorted its caller's slices: %v", want)
	}
}
