package plan

import (
	"fmt"
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

// downAt is a verdict: the targets at these addresses are down.
func downAt(addresses ...string) func(*Snapshot) {
	return func(s *Snapshot) {
		s.Down = nil
		down := map[model.Target]bool{}
		for _, part := range Node(*s).Parts {
			for _, checked := range part.Checked {
				if slices.Contains(addresses, checked.Target.Addr.String()) {
					down[checked.Target] = true
				}
			}
		}
		s.Down = down
	}
}

func TestWeightsFollowHealthChecks(t *testing.T) {
	ingress := web()
	ingress.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, Port: 8080}
	ingress.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTP, Port: 1936}
	ready := []Machine{machine("n1"), machine("n2"), machine("n3")}
	for name, test := range map[string]struct {
		machines []Machine
		down     []string
		want     []string
		count    string
	}{
		"all up": {machines: ready, want: []string{"10.87.0.1:8080 1", "10.87.0.2:8080 1", "10.87.0.3:8080 1"}, count: "3/3"},
		"one whose health port is down keeps its connections and gets no more": {
			machines: ready, down: []string{"10.87.0.2:1936"},
			want: []string{"10.87.0.1:8080 1", "10.87.0.2:8080 0", "10.87.0.3:8080 1"}, count: "2/3",
		},
		"the traffic port is not what is checked": {
			machines: ready, down: []string{"10.87.0.2:8080"},
			want: []string{"10.87.0.1:8080 1", "10.87.0.2:8080 1", "10.87.0.3:8080 1"}, count: "3/3",
		},
		"with all down connections go to all, and none counts as ready": {
			machines: ready, down: []string{"10.87.0.1:1936", "10.87.0.2:1936", "10.87.0.3:1936"},
			want: []string{"10.87.0.1:8080 1", "10.87.0.2:8080 1", "10.87.0.3:8080 1"}, count: "0/3",
		},
		"with all down or not Ready they go where they would without checks": {
			machines: []Machine{machine("n1"), machine("n2", unready), machine("n3")}, down: []string{"10.87.0.1:1936", "10.87.0.3:1936"},
			want: []string{"10.87.0.1:8080 1", "10.87.0.2:8080 0", "10.87.0.3:8080 1"}, count: "0/3",
		},
		"with no node Ready those that are up take them": {
			machines: []Machine{machine("n1", unready), machine("n2", unready)}, down: []string{"10.87.0.1:1936"},
			want: []string{"10.87.0.1:8080 0", "10.87.0.2:8080 1"}, count: "1/2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			result := node1(downAt(test.down...), test.machines, "10.87.2.10", ingress)
			if diff := cmp.Diff(test.want, lines(result.State.Servers[0].Backends)); diff != "" {
				t.Errorf("backends (-want +got):\n%s", diff)
			}
			if count := part(result, "10.87.2.10").Backends.String(); count != test.count {
				t.Errorf("count %s, want %s", count, test.count)
			}
			for _, checked := range part(result, "10.87.2.10").Checked {
				if want := slices.Contains(test.down, checked.Target.Addr.String()); checked.Down != want {
					t.Errorf("%s is down: %v, want %v", checked.Backend, checked.Down, want)
				}
			}
		})
	}
}

func TestEveryFrontendFailsOpenAlone(t *testing.T) {
	http, https := web(), web()
	for port, frontend := range map[int32]*v1alpha1.Frontend{80: &http, 443: &https} {
		frontend.Port, frontend.HealthCheck = port, &v1alpha1.HealthCheck{}
		frontend.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}
	}
	result := node1(downAt("10.87.0.1:80", "10.87.0.2:80", "10.87.0.1:443"), []Machine{machine("n1"), machine("n2")}, "10.87.2.10", http, https)
	want := [][]string{{"10.87.0.1:80 1", "10.87.0.2:80 1"}, {"10.87.0.1:443 0", "10.87.0.2:443 1"}}
	for i, server := range result.State.Servers {
		if diff := cmp.Diff(want[i], lines(server.Backends)); diff != "" {
			t.Errorf("backends of port %d (-want +got):\n%s", server.Port, diff)
		}
	}
	if count := part(result, "10.87.2.10").Backends.String(); count != "1/4" {
		t.Errorf("count %s, want 1/4", count)
	}
}

func TestWhatIsChecked(t *testing.T) {
	for name, test := range map[string]struct {
		protocol corev1.Protocol
		spec     *v1alpha1.HealthCheck
		want     []string // backend, address, type, path
		problem  string
	}{
		"nothing without a check": {},
		"the backend's port": {
			spec: &v1alpha1.HealthCheck{},
			want: []string{"10.244.1.2:8080 at 10.244.1.2:8080 TCP ", "10.244.2.2:8080 at 10.244.2.2:8080 TCP "},
		},
		"another port": {
			spec: &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTPS, Port: 9443},
			want: []string{"10.244.1.2:8080 at 10.244.1.2:9443 HTTPS /", "10.244.2.2:8080 at 10.244.2.2:9443 HTTPS /"},
		},
		"nothing of UDP without a port": {protocol: corev1.ProtocolUDP, spec: &v1alpha1.HealthCheck{}},
		"a port beside UDP": {
			protocol: corev1.ProtocolUDP, spec: &v1alpha1.HealthCheck{Port: 8081},
			want: []string{"10.244.1.2:8080 at 10.244.1.2:8081 TCP ", "10.244.2.2:8080 at 10.244.2.2:8081 TCP "},
		},
		"UDP by a check of its own": {
			protocol: corev1.ProtocolUDP, spec: &v1alpha1.HealthCheck{Type: v1alpha1.CheckUDP},
			want: []string{"10.244.1.2:8080 at 10.244.1.2:8080 UDP ", "10.244.2.2:8080 at 10.244.2.2:8080 UDP "},
		},
		"nothing of TCP by a check of UDP": {spec: &v1alpha1.HealthCheck{Type: v1alpha1.CheckUDP}},
		"gRPC": {
			spec: &v1alpha1.HealthCheck{Type: v1alpha1.CheckGRPC},
			want: []string{"10.244.1.2:8080 at 10.244.1.2:8080 GRPC ", "10.244.2.2:8080 at 10.244.2.2:8080 GRPC "},
		},
		"a type that is not known": {spec: &v1alpha1.HealthCheck{Type: "ICMP"}, problem: `healthCheck.type "ICMP" is not one of TCP`},
		"codes that are none":      {spec: &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTP, ExpectedCodes: []v1alpha1.StatusCodes{"2xx"}}, problem: `"2xx"`},
		"codes that end before they begin": {
			spec:    &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTP, ExpectedCodes: []v1alpha1.StatusCodes{"399-200"}},
			problem: `"399-200"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			frontend := web()
			frontend.HealthCheck = test.spec
			if test.protocol != "" {
				frontend.Protocol = test.protocol
			}
			slice := endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, endpoint{address: "10.244.1.2"}, endpoint{address: "10.244.2.2"},
				endpoint{address: "10.244.3.2", ready: ptr(false), serving: ptr(true), terminating: ptr(true)}, endpoint{address: "10.244.3.3", ready: ptr(false)})
			slice.Ports[0].Protocol = &frontend.Protocol
			result := Node(Snapshot{
				VIPs:   []*v1alpha1.VIP{vip("10.87.2.10", frontend)},
				Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice { return []*discoveryv1.EndpointSlice{slice} },
			})
			var got []string
			for _, c := range part(result, "10.87.2.10").Checked {
				got = append(got, fmt.Sprintf("%s at %s %s %s", c.Backend, c.Target.Addr, c.Target.Check.Type, c.Target.Check.Path))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("checked (-want +got):\n%s", diff)
			}
			problem := fmt.Sprint(part(result, "10.87.2.10").Problem)
			if test.problem != "" && (!strings.Contains(problem, test.problem) || !strings.Contains(problem, "are not checked")) {
				t.Errorf("problem %q, want %q", problem, test.problem)
			}
			backends := 3
			if test.protocol == corev1.ProtocolUDP {
				backends = 2 // the one that terminates has moved its flows
			}
			if len(result.State.Servers) != 1 || len(result.State.Servers[0].Backends) != backends {
				t.Errorf("servers %v: a check that cannot be made must not close the port", result.State.Servers)
			}
		})
	}
}

func TestBackendsOfSeveralFrontendsAreCheckedOnce(t *testing.T) {
	http, https := web(), web()
	http.HealthCheck, https.HealthCheck, https.Port = &v1alpha1.HealthCheck{}, &v1alpha1.HealthCheck{}, 443
	result := node1(nil, nil, "10.87.2.10", http, https)
	if got := len(part(result, "10.87.2.10").Checked); got != 2 {
		t.Errorf("%d backends are checked, want the 2 pods", got)
	}
}

func TestTheDefaultsOfACheck(t *testing.T) {
	frontend := web()
	frontend.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTP}
	got, checked, err := checkOf(&frontend)
	if err != nil || !checked {
		t.Fatal(checked, err)
	}
	want := model.Check{Type: model.CheckHTTP, Path: "/", Interval: 5 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}
	want.Codes.Add(200, 399)
	if got != want {
		t.Errorf("check %+v, want %+v", got, want)
	}
	for code, good := range map[int]bool{99: false, 199: false, 200: true, 204: true, 399: true, 400: false, 503: false, 600: false} {
		if got.Codes.Has(code) != good {
			t.Errorf("code %d is good: %v, want %v", code, !good, good)
		}
	}
}
