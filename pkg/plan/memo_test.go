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
	now    time.Duration
}

func newHistory(seed uint64) *history {
	h := &history{
		Rand: rand.New(rand.NewPCG(seed, 1)), slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		down: map[netip.AddrPort]bool{},
	}
	h.Snapshot = Snapshot{
		Node: "n1", Interfaces: []model.Interface{eth0}, Held: map[string]bool{},
		Slices: func(service types.NamespacedName) []*discoveryv1.EndpointSlice {
			all := slices.Clone(h.slices[service])
			h.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) // an index gives them in no order
			return all
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
	frontend.HealthCheckNodePort = int32(h.IntN(2) * 32000)
	other := web()
	other.Port, other.Service = 81, frontend.Service
	out := vip(fmt.Sprintf("10.87.2.%d", 10+i), frontend, other)
	out.UID, out.Generation = types.UID(fmt.Sprint(h.Int())), 1
	return out
}

// change changes one thing.
func (h *history) change() string {
	service := types.NamespacedName{Namespace: "default", Name: fmt.Sprintf("web-%d", h.IntN(4))}
	i := h.IntN(6)
	name := fmt.Sprintf("10.87.2.%d", 10+i)
	at, exists := slices.BinarySearchFunc(h.VIPs, name, func(v *v1alpha1.VIP, name string) int { return strings.Compare(v.Name, name) })
	switch h.IntN(11) {
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
	case 8:
		if exists {
			h.VIPs = slices.Clone(h.VIPs)
			h.VIPs[at] = h.VIPs[at].DeepCopy()
			h.VIPs[at].Status.Node = fmt.Sprint(h.Int())
		}
		return "the status of " + name
	case 9:
		if exists {
			h.VIPs = slices.Clone(h.VIPs)
			h.VIPs[at] = h.VIPs[at].DeepCopy()
			h.VIPs[at].Generation++
			h.VIPs[at].Spec.Frontends[0].Port++
		}
		return "the spec of " + name
	}
	h.now += time.Duration(h.IntN(100)) * time.Second
	return "time"
}

// verdicts are those on the targets of a plan.
func (h *history) verdicts() map[model.Target]bool {
	down := map[model.Target]bool{}
	for _, part := range Node(h.Snapshot).Parts {
		for _, checked := range part.Checked {
			if h.down[checked.Target.Addr] {
				down[checked.Target] = true
			}
		}
	}
	return down
}

// comparable makes results comparable: errors by their text, and what is nil or empty alike.
var comparable = cmp.Options{
	cmp.Transformer("text", func(err error) string { return fmt.Sprint(err) }),
	cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty(), cmp.AllowUnexported(Part{}),
}

// TestAPlannerPlansWhatNodeDoes goes through random histories: after each change what is taken from before must be what a plan
// of everything would be, and what was returned before must be as it was.
func TestAPlannerPlansWhatNodeDoes(t *testing.T) {
	for seed := range uint64(60) {
		h := newHistory(seed)
		var planner Planner
		var before Result
		for step := range 60 {
			change := h.change()
			h.Down = h.verdicts()
			was := written(before)
			want, got := Node(h.Snapshot), planner.Node(h.Snapshot)
			if diff := cmp.Diff(want, got, comparable); diff != "" {
				t.Fatalf("history %d, step %d (%s): (-want +got)\n%s", seed, step, change, diff)
			}
			var candidates []Candidacy
			for _, vip := range h.VIPs {
				candidates = append(candidates, Candidates(vip, h.Machines, h.Slices))
			}
			if diff := cmp.Diff(candidates, planner.Candidates(h.VIPs, h.Machines, h.Slices), comparable); diff != "" {
				t.Fatalf("history %d, step %d (%s): candidates (-want +got)\n%s", seed, step, change, diff)
			}
			if is := written(before); is != was {
				t.Fatalf("history %d, step %d (%s): the result before was\n%s\nand is\n%s", seed, step, change, was, is)
			}
			checkChanges(t, before.Parts, got.Parts)
			before = got
			if h.Had = got.State.Servers; h.IntN(4) == 0 { // as a speaker that was restarted reads it
				h.Had = slices.Clone(h.Had)
			}
		}
	}
}

func written(result Result) string {
	var parts []Part
	for _, part := range result.Parts {
		parts = append(parts, *part)
	}
	return fmt.Sprint(result.State, parts)
}

// checkChanges holds what Changes tells against the parts themselves: each that differs once, and no other.
func checkChanges(t *testing.T, before, now []*Part) {
	t.Helper()
	want, got := map[string][2]*Part{}, map[string][2]*Part{}
	for _, part := range before {
		want[part.VIP] = [2]*Part{part, nil}
	}
	for _, part := range now {
		want[part.VIP] = [2]*Part{want[part.VIP][0], part}
	}
	maps.DeleteFunc(want, func(_ string, pair [2]*Part) bool { return pair[0] == pair[1] })
	for old, new := range Changes(before, now) {
		got[name(old, new)] = [2]*Part{old, new}
	}
	if !maps.Equal(want, got) {
		t.Fatalf("changes are %v, want %v", got, want)
	}
	for _, pair := range got {
		if pair[0] != nil && pair[1] != nil && cmp.Equal(pair[0], pair[1], comparable) {
			t.Fatalf("part %v was made anew and did not change", *pair[1])
		}
	}
}

// TestWhatDidNotChangeIsTheVeryOne looks at which lists of a result are made anew: callers compare them with those before.
func TestWhatDidNotChangeIsTheVeryOne(t *testing.T) {
	snapshot := benchSnapshot(100)
	var planner Planner
	first, candidates := planner.Node(snapshot), planner.Candidates(snapshot.VIPs, snapshot.Machines, snapshot.Slices)
	snapshot.VIPs = slices.Clone(snapshot.VIPs)
	snapshot.VIPs[7] = snapshot.VIPs[7].DeepCopy()
	snapshot.Machines = slices.Clone(snapshot.Machines)
	if second := planner.Node(snapshot); !model.Same(first.Parts, second.Parts) || !model.Same(first.State.Servers, second.State.Servers) {
		t.Error("the parts or servers are others although nothing changed")
	}
	if !model.Same(candidates, planner.Candidates(snapshot.VIPs, snapshot.Machines, snapshot.Slices)) {
		t.Error("the candidates are others although nothing changed")
	}
	original := snapshot.Slices
	snapshot.Slices = func(service types.NamespacedName) []*discoveryv1.EndpointSlice {
		if service.Name == "web-7" {
			return nil
		}
		return original(service)
	}
	third := planner.Node(snapshot)
	if model.Same(first.State.Servers, third.State.Servers) || len(third.State.Servers) != 100 {
		t.Errorf("%d servers are left of 100 of which one lost its backends", len(third.State.Servers))
	}
	if !model.Same(first.State.VIPs, third.State.VIPs) || !model.Same(first.State.Bindings, third.State.Bindings) {
		t.Error("VIPs or bindings are others although only the backends of one changed")
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

func name(parts ...*Part) string {
	return parts[slices.IndexFunc(parts, func(p *Part) bool { return p != nil })].VIP
}

// TestAPlannerWithoutVIPsSeesOtherMachines: the last VIP goes and a node changes at the same time, which made a speaker panic.
func TestAPlannerWithoutVIPsSeesOtherMachines(t *testing.T) {
	h := newHistory(1)
	var planner Planner
	h.VIPs = []*v1alpha1.VIP{h.randomVIP(0)}
	planner.Node(h.Snapshot)
	h.VIPs = nil
	h.Machines = append([]Machine(nil), h.Machines[:2]...)
	for range 2 {
		if result := planner.Node(h.Snapshot); len(result.State.Servers) != 0 || len(result.Parts) != 0 {
			t.Errorf("planned %+v without VIPs", result.State)
		}
		h.Machines = append([]Machine(nil), h.Machines[:1]...)
	}
}
