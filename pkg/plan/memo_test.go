package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// history is a cluster in which one thing after another changes.
type history struct {
	*rand.Rand
	Snapshot
	slices map[types.NamespacedName][]*discoveryv1.EndpointSlice
	down   map[netip.AddrPort]bool
	had    map[model.Frontend][]model.Backend
	now    time.Duration
}

func newHistory(seed uint64) *history {
	h := &history{
		Rand: rand.New(rand.NewPCG(seed, 1)), slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		down: map[netip.AddrPort]bool{}, had: map[model.Frontend][]model.Backend{},
	}
	h.Snapshot = Snapshot{
		Node: "n1", Interfaces: []model.Interface{eth0}, Held: map[string]bool{},
		Slices: func(service types.NamespacedName) []*discoveryv1.EndpointSlice {
			all := slices.Clone(h.slices[service])
			h.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) // an index gives them in no order
			return all
		},
		Down: func(target model.Target) bool { return h.down[target.Addr] },
		Had: func(frontend model.Frontend) ([]model.Backend, bool) {
			backends, known := h.had[frontend]
			return backends, known
		},
		Drained: func(drain Drain) (time.Duration, bool) {
			return h.now % (2 * drain.Limit), drain.Backend.Port()%2 == 0 && h.now%3 == 0
		},
	}
	for i := range 3 {
		h.Machines = append(h.Machines, machine(fmt.Sprintf("n%d", i+1), h.interfaces))
	}
	return h
}

func (h *history) interfaces(m *Machine) { m.Interfaces = []model.Interface{eth0} }

func (h *history) randomVIP(i int) *v1alpha1.VIP {
	frontend := web()
	frontend.Service.Name = fmt.Sprintf("web-%d", h.IntN(4))
	if h.IntN(2) == 0 {
		frontend.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.CheckTCP}
	}
	if h.IntN(4) == 0 {
		frontend.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	switch h.IntN(5) {
	case 0:
		frontend.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}
		frontend.Forwarding = []v1alpha1.Forwarding{v1alpha1.ForwardMasquerade, v1alpha1.ForwardDirect, v1alpha1.ForwardTunnel}[h.IntN(3)]
	case 1:
		frontend.SourceRanges = []string{[]string{"10.0.0.0/8", "nonsense", "fd00::/8"}[h.IntN(3)]}
	}
	other := web()
	other.Port, other.Service = 81, frontend.Service
	return vip(fmt.Sprintf("10.87.2.%d", 10+i), frontend, other)
}

// change changes one thing.
func (h *history) change() string {
	service := types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("web-%d", h.IntN(4))}
	i := h.IntN(6)
	name := fmt.Sprintf("10.87.2.%d", 10+i)
	at, exists := slices.BinarySearchFunc(h.VIPs, name, func(v *v1alpha1.VIP, name string) int { return strings.Compare(v.Name, name) })
	switch h.IntN(9) {
	case 0:
		if exists {
			h.VIPs = slices.Delete(slices.Clone(h.VIPs), at, at+1)
			return "delete " + name
		}
		h.VIPs = slices.Insert(slices.Clone(h.VIPs), at, h.randomVIP(i))
		return "create " + name
	case 1:
		if exists {
			h.VIPs = slices.Clone(h.VIPs)
			h.VIPs[at] = h.randomVIP(i)
		}
		return "replace " + name
	case 2:
		var of []endpoint
		for range h.IntN(4) {
			pod := h.IntN(5)
			of = append(of, endpoint{
				address: fmt.Sprintf("10.244.1.%d", pod), node: fmt.Sprintf("n%d", 1+pod%3),
				ready: ptr(h.IntN(2) == 0), serving: ptr(h.IntN(2) == 0), terminating: ptr(h.IntN(2) == 0),
			})
		}
		h.slices[service] = append(slices.Clone(h.slices[service]), endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, of...))
		return "a slice more of " + service.Name
	case 3:
		if all := h.slices[service]; len(all) > 0 {
			h.slices[service] = all[1:]
		}
		return "a slice less of " + service.Name
	case 4:
		h.Held = maps.Clone(h.Held)
		h.Held[name] = !h.Held[name]
		return "hold " + name
	case 5:
		h.Machines = slices.Clone(h.Machines)
		h.Machines[h.IntN(3)] = machine(fmt.Sprintf("n%d", 1+h.IntN(3)), h.interfaces, func(m *Machine) { m.Ready = h.IntN(2) == 0 })
		return "a node"
	case 6:
		target := netip.MustParseAddrPort(fmt.Sprintf("10.244.1.%d:8080", h.IntN(5)))
		h.down[target] = !h.down[target]
		return "a verdict on " + target.String()
	case 7:
		h.Isolated = !h.Isolated
		return "another placement"
	}
	h.now += time.Duration(h.IntN(100)) * time.Second
	return "time"
}

// TestAPlannerPlansWhatNodeDoes goes through random histories: after each change what is taken from before must be what a plan
// of everything would be.
func TestAPlannerPlansWhatNodeDoes(t *testing.T) {
	errorText := cmp.Transformer("text", func(err error) string { return err.Error() })
	options := cmp.Options{errorText, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()}
	for seed := range uint64(60) {
		h := newHistory(seed)
		var planner Planner
		for step := range 60 {
			change := h.change()
			want, got := Node(h.Snapshot), planner.Node(h.Snapshot)
			if diff := cmp.Diff(want, got, options); diff != "" {
				t.Fatalf("history %d, step %d (%s): (-want +got)\n%s", seed, step, change, diff)
			}
			var candidates []Candidacy
			for _, vip := range h.VIPs {
				candidates = append(candidates, Candidates(vip, h.Machines, h.Slices))
			}
			if diff := cmp.Diff(candidates, planner.Candidates(h.VIPs, h.Machines, h.Slices), options); diff != "" {
				t.Fatalf("history %d, step %d (%s): candidates (-want +got)\n%s", seed, step, change, diff)
			}
			h.had = map[model.Frontend][]model.Backend{}
			for _, server := range got.State.Servers {
				h.had[server.Frontend] = server.Backends
			}
		}
	}
}

// TestAPlannerPlansOnlyWhatChanged counts the VIPs that are planned anew: those whose EndpointSlices were read twice.
func TestAPlannerPlansOnlyWhatChanged(t *testing.T) {
	snapshot := benchSnapshot(100)
	read := map[string]int{}
	original := snapshot.Slices
	changed := map[string][]*discoveryv1.EndpointSlice{}
	snapshot.Slices = func(service types.NamespacedName) []*discoveryv1.EndpointSlice {
		read[service.Name]++
		if slices, ok := changed[service.Name]; ok {
			return slices
		}
		return original(service)
	}
	var planner Planner
	planner.Node(snapshot)
	clear(read)
	planner.Node(snapshot)
	changed["web-7"] = nil
	planner.Node(snapshot)
	for name, times := range read {
		if want := map[bool]int{true: 3, false: 2}[name == "web-7"]; times != want {
			t.Errorf("the EndpointSlices of %s were read %d times, want %d", name, times, want)
		}
	}
}
