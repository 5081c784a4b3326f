package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// past is what a node remembers: backends that it had (none: it had not the frontend), and of those that drain whether they
// are empty and for how long they have drained.
type past struct {
	had   []string
	empty []string
	since time.Duration
}

// only is the only frontend of a snapshot.
func only(s Snapshot) model.Frontend {
	vip, frontend := s.VIPs[0], s.VIPs[0].Spec.Frontends[0]
	return model.Frontend{
		Addr: netip.MustParseAddr(vip.Spec.Address), Port: uint16(frontend.Port), Proto: model.Protocol(frontend.Protocol),
	}
}

func (p past) apply(s *Snapshot) {
	if p.had != nil {
		server := model.Server{Frontend: only(*s)}
		for _, text := range p.had {
			server.Backends = append(server.Backends, model.Backend{Addr: netip.MustParseAddrPort(text), Weight: 1})
		}
		s.Had = []model.Server{server}
	}
	s.Drained = func(d Drain) (time.Duration, bool) { return p.since, slices.Contains(p.empty, d.Backend.String()) }
}

func TestWhatGetsNoNewConnectionsDrains(t *testing.T) {
	no, yes := ptr(false), ptr(true)
	up := endpoint{address: "10.244.1.2"}
	leaving := endpoint{address: "10.244.1.3", ready: no, serving: yes, terminating: yes}
	unready := endpoint{address: "10.244.1.3", ready: no, serving: no, terminating: no}
	ending := endpoint{address: "10.244.1.3", ready: no, serving: no, terminating: yes}
	both := []string{"10.244.1.2:8080", "10.244.1.3:8080"}
	drains := []string{"10.244.1.2:8080 1", "10.244.1.3:8080 0"}
	alone := []string{"10.244.1.2:8080 1"}
	for name, test := range map[string]struct {
		endpoints []endpoint
		backends  *v1alpha1.Backends
		check     *v1alpha1.HealthCheck
		limit     *int32
		protocol  corev1.Protocol
		past      past
		want      []string
		again     time.Duration
	}{
		"a pod that terminates":                   {endpoints: []endpoint{up, leaving}, past: past{had: both}, want: drains, again: 300 * time.Second},
		"one that is not ready any more":          {endpoints: []endpoint{up, unready}, past: past{had: both}, want: drains, again: 300 * time.Second},
		"one that does not even serve any more":   {endpoints: []endpoint{up, ending}, past: past{had: both}, want: drains, again: 300 * time.Second},
		"until its last connection has ended":     {endpoints: []endpoint{up, leaving}, past: past{had: both, empty: both[1:]}, want: alone},
		"or its time is over":                     {endpoints: []endpoint{up, unready}, past: past{had: both, since: 5 * time.Minute}, want: alone},
		"a bit earlier it is not":                 {endpoints: []endpoint{up, unready}, past: past{had: both, since: 299 * time.Second}, want: drains, again: time.Second},
		"a time of its own":                       {endpoints: []endpoint{up, leaving}, limit: ptr(int32(60)), past: past{had: both, since: time.Minute}, want: alone},
		"no time at all":                          {endpoints: []endpoint{up, leaving}, limit: ptr(int32(0)), past: past{had: both}, want: alone},
		"once gone it stays away":                 {endpoints: []endpoint{up, leaving}, past: past{had: both[:1]}, want: alone},
		"one that never was ready never comes":    {endpoints: []endpoint{up, unready}, past: past{had: both[:1]}, want: alone},
		"a node new to it has what drains":        {endpoints: []endpoint{up, leaving}, want: drains, again: 300 * time.Second},
		"but not what does not serve":             {endpoints: []endpoint{up, unready}, want: alone},
		"a pod that is not listed any more":       {endpoints: []endpoint{up}, past: past{had: both}, want: alone},
		"with none ready it takes new ones again": {endpoints: []endpoint{leaving}, past: past{had: both[:1]}, want: []string{"10.244.1.3:8080 1"}},
		"a flow of UDP moves at once":             {endpoints: []endpoint{up, leaving}, protocol: corev1.ProtocolUDP, past: past{had: both}, want: alone},
		"an association of SCTP too":              {endpoints: []endpoint{up, unready}, protocol: corev1.ProtocolSCTP, past: past{had: both}, want: alone},
		"a port that the pods have no more": {
			endpoints: []endpoint{up}, past: past{had: []string{"10.244.1.2:9090"}},
			want: []string{"10.244.1.2:8080 1", "10.244.1.2:9090 0"}, again: 300 * time.Second,
		},
		"a node that is selected no more": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}, past: past{had: []string{"10.87.0.1:80", "10.87.0.9:80"}},
			want: []string{"10.87.0.1:80 1", "10.87.0.9:80 0"}, again: 300 * time.Second,
		},
		"an address that is listed no more, until it is empty": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Addresses: []string{"192.0.2.1"}},
			past:     past{had: []string{"192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"}, empty: []string{"192.0.2.2:80"}},
			want:     []string{"192.0.2.1:80 1", "192.0.2.3:80 0"}, again: 300 * time.Second,
		},
		"the last resort, when pods are up again": {
			endpoints: []endpoint{up}, check: &v1alpha1.HealthCheck{LastResort: []string{"192.0.2.80:80"}},
			past: past{had: []string{"10.244.1.2:8080", "192.0.2.80:80"}},
			want: []string{"10.244.1.2:8080 1", "192.0.2.80:80 0"}, again: 300 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			frontend := web()
			frontend.Backends, frontend.DrainSeconds, frontend.HealthCheck = test.backends, test.limit, test.check
			if test.protocol != "" {
				frontend.Protocol = test.protocol
			}
			slice := endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, test.endpoints...)
			slice.Ports[0].Protocol = &frontend.Protocol
			snapshot := Snapshot{
				VIPs: []*v1alpha1.VIP{vip("10.87.2.10", frontend)}, Node: "n2", Machines: []Machine{machine("n1")},
				Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice { return []*discoveryv1.EndpointSlice{slice} },
			}
			test.past.apply(&snapshot)
			result := Node(snapshot)
			if len(result.State.Servers) != 1 {
				t.Fatalf("servers %v, problems %v", result.State.Servers, problems(result))
			}
			if diff := cmp.Diff(test.want, lines(result.State.Servers[0].Backends)); diff != "" {
				t.Errorf("backends (-want +got):\n%s", diff)
			}
			if result.Again != test.again {
				t.Errorf("to be planned again in %v, want %v", result.Again, test.again)
			}
			if zeroes := strings.Count(fmt.Sprint(test.want), " 0"); len(result.Draining) != zeroes {
				t.Errorf("draining are %v, want %d", result.Draining, zeroes)
			}
		})
	}
}

func TestABackendThatStaysDownIsRemoved(t *testing.T) {
	had := []string{"10.87.0.1:80", "10.87.0.2:80"}
	kept := []string{"10.87.0.1:80 0", "10.87.0.2:80 1"}
	gone := []string{"10.87.0.2:80 1"}
	for name, test := range map[string]struct {
		after    *int32
		protocol corev1.Protocol
		past     past
		want     []string
		again    time.Duration
	}{
		"after a minute":                 {past: past{had: had, since: time.Minute}, want: gone},
		"not before, empty as it may be": {past: past{had: had, since: 45 * time.Second, empty: had[:1]}, want: kept, again: 15 * time.Second},
		"or when the check says":         {after: ptr(int32(5)), past: past{had: had, since: 5 * time.Second}, want: gone},
		"which may be at once":           {after: ptr(int32(0)), past: past{had: had}, want: gone},
		"of UDP at once in any case":     {protocol: corev1.ProtocolUDP, past: past{had: had}, want: gone},
		"once gone it stays away":        {past: past{had: had[1:]}, want: gone},
		"a node new to it has it":        {want: kept, again: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			frontend := web()
			frontend.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}
			frontend.HealthCheck = &v1alpha1.HealthCheck{Port: 1936, RemoveAfterSeconds: test.after}
			if test.protocol != "" {
				frontend.Protocol = test.protocol
			}
			snapshot := Snapshot{
				VIPs: []*v1alpha1.VIP{vip("10.87.2.10", frontend)}, Node: "n3", Machines: []Machine{machine("n1"), machine("n2")},
			}
			test.past.apply(&snapshot)
			downAt("10.87.0.1:1936")(&snapshot)
			result := Node(snapshot)
			if diff := cmp.Diff(test.want, lines(result.State.Servers[0].Backends)); diff != "" || result.Again != test.again {
				t.Errorf("to be planned again in %v, want %v; backends (-want +got):\n%s", result.Again, test.again, diff)
			}
			// With the other one down too, both are back: to try is better than to refuse.
			downAt("10.87.0.1:1936", "10.87.0.2:1936")(&snapshot)
			result = Node(snapshot)
			if diff := cmp.Diff([]string{"10.87.0.1:80 1", "10.87.0.2:80 1"}, lines(result.State.Servers[0].Backends)); diff != "" {
				t.Errorf("with all down the backends are (-want +got):\n%s", diff)
			}
		})
	}
}

// TestWhateverComesAndGoesEveryReadyBackendHasAWeightAndWhatIsGoneEnds plays a random history of one frontend, and looks after
// every plan whether those that are ready have weight 1, no other has, and the plan made again of its own outcome is the same.
func TestWhateverComesAndGoesEveryReadyBackendHasAWeightAndWhatIsGoneEnds(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 0))
		var had []model.Backend
		var known bool
		for range 40 {
			listed := map[string]bool{} // whether an address of the list is wanted
			spec := &v1alpha1.Backends{Kind: v1alpha1.BackendStatic}
			for i := range 4 {
				if random.IntN(2) == 0 {
					text := fmt.Sprintf("192.0.2.%d", i+1)
					spec.Addresses, listed[text] = append(spec.Addresses, text), true
				}
			}
			if len(spec.Addresses) == 0 {
				continue
			}
			frontend := web()
			frontend.Backends = spec
			ended := random.IntN(3) == 0
			snapshot := Snapshot{
				VIPs: []*v1alpha1.VIP{vip("10.87.2.10", frontend)}, Node: "n1",
				Drained: func(Drain) (time.Duration, bool) { return 0, ended },
			}
			if known {
				snapshot.Had = []model.Server{{Frontend: only(snapshot), Backends: had}}
			}
			got := Node(snapshot).State.Servers[0].Backends
			before := had
			had, known = got, true
			if again := Node(snapshot).State.Servers[0].Backends; !slices.Equal(again, got) {
				t.Fatalf("seed %d: of its own outcome %v the plan makes %v", seed, got, again)
			}
			ready := 0
			for _, b := range got {
				wanted := listed[b.Addr.Addr().String()]
				if (b.Weight == 1) != wanted || !wanted && (ended || !slices.ContainsFunc(before, func(o model.Backend) bool { return o.Addr == b.Addr })) {
					t.Fatalf("seed %d: %v of %v, wanted %v, had %v, ended %v", seed, b, got, spec.Addresses, before, ended)
				}
				if wanted {
					ready++
				}
			}
			if ready != len(listed) || !slices.IsSortedFunc(got, model.Backend.Compare) {
				t.Fatalf("seed %d: backends %v, wanted %v", seed, got, spec.Addresses)
			}
		}
	}
}
