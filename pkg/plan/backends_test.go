package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

func lines(backends []model.Backend) (out []string) {
	for _, b := range backends {
		out = append(out, fmt.Sprintf("%s %d", b.Addr, b.Weight))
	}
	return out
}

func TestEndpoints(t *testing.T) {
	yes, no := ptr(true), ptr(false)
	vip4 := netip.MustParseAddr("10.87.2.10")
	for name, test := range map[string]struct {
		slices []*discoveryv1.EndpointSlice
		want   []string // address and weight
		all    int
	}{
		"ready endpoints of all slices are backends, in the order of their addresses": {
			slices: []*discoveryv1.EndpointSlice{
				endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, endpoint{address: "10.244.2.2", ready: yes}),
				endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, endpoint{address: "10.244.1.2", ready: yes}),
			},
			want: []string{"10.244.1.2:8080 1", "10.244.2.2:8080 1"}, all: 2,
		},
		"an endpoint whose readiness is not said is ready": {
			slices: []*discoveryv1.EndpointSlice{endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, endpoint{address: "10.244.1.2"})},
			want:   []string{"10.244.1.2:8080 1"}, all: 1,
		},
		"one that is not ready is none": {
			slices: []*discoveryv1.EndpointSlice{endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080,
				endpoint{address: "10.244.1.2", ready: no}, endpoint{address: "10.244.1.3", ready: yes})},
			want: []string{"10.244.1.3:8080 1"}, all: 2,
		},
		"one that terminates and serves keeps its connections while another is ready": {
			slices: []*discoveryv1.EndpointSlice{endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080,
				endpoint{address: "10.244.1.2", ready: no, serving: yes, terminating: yes}, endpoint{address: "10.244.1.3", ready: yes})},
			want: []string{"10.244.1.2:8080 0", "10.244.1.3:8080 1"}, all: 2,
		},
		"and takes new ones when no other is": {
			slices: []*discoveryv1.EndpointSlice{endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080,
				endpoint{address: "10.244.1.2", ready: no, serving: yes, terminating: yes})},
			want: []string{"10.244.1.2:8080 1"}, all: 1,
		},
		"the other family and other ports do not count": {
			slices: []*discoveryv1.EndpointSlice{
				endpointSlice(discoveryv1.AddressTypeIPv6, "http", 8080, endpoint{address: "fd00::2", ready: yes}),
				endpointSlice(discoveryv1.AddressTypeIPv4, "metrics", 9090, endpoint{address: "10.244.1.2", ready: yes}),
			},
			want: nil, all: 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			backends, count := weigh(endpoints(test.slices, vip4, "http", corev1.ProtocolTCP), nil)
			if diff := cmp.Diff(test.want, lines(backends)); diff != "" || count.All != test.all {
				t.Errorf("backends (-want +got):\n%s\nof %d in all, want %d", diff, count.All, test.all)
			}
		})
	}
}

func machine(name string, change ...func(*Machine)) Machine {
	number := strings.TrimPrefix(name, "n")
	m := Machine{Name: name, Ready: true, Labels: map[string]string{"kubernetes.io/hostname": name}, Addresses: []netip.Addr{
		netip.MustParseAddr("10.87.0." + number), netip.MustParseAddr("fd87::" + number), netip.MustParseAddr("203.0.113." + number),
	}}
	for _, apply := range change {
		apply(&m)
	}
	return m
}

func unready(m *Machine) { m.Ready = false }

func labelled(key string) func(*Machine) { return func(m *Machine) { m.Labels[key] = "" } }

// node1 is the plan of node n1, which holds it, for one VIP, with pods of both families.
func node1(down func(*Snapshot), machines []Machine, address string, frontends ...v1alpha1.Frontend) Result {
	snapshot := Snapshot{
		VIPs: []*v1alpha1.VIP{vip(address, frontends...)}, Node: "n1", Machines: machines,
		Held: map[string]bool{address: true}, Interfaces: []model.Interface{eth0},
		Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice {
			return []*discoveryv1.EndpointSlice{
				endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, endpoint{address: "10.244.1.2"}, endpoint{address: "10.244.2.2"}),
				endpointSlice(discoveryv1.AddressTypeIPv6, "http", 8080, endpoint{address: "fd00:244:1::2"}),
			}
		},
	}
	if down != nil {
		down(&snapshot)
	}
	return Node(snapshot)
}

func TestKindsOfBackends(t *testing.T) {
	three := []Machine{machine("n2"), machine("n3"), machine("n1")}
	edge := &metav1.LabelSelector{MatchLabels: map[string]string{"edge": ""}}
	for name, test := range map[string]struct {
		vip      string // 10.87.2.10 if empty
		backends *v1alpha1.Backends
		nodePort int32
		machines []Machine
		want     []string
		count    string
		problem  string // instead
	}{
		"nothing said is pods": {want: []string{"10.244.1.2:8080 1", "10.244.2.2:8080 1"}, count: "2/2"},
		"Pods are the endpoints": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendPods}, vip: "fd87::2:10",
			want: []string{"[fd00:244:1::2]:8080 1"}, count: "1/1",
		},
		"NodePort is every node but this one, which kube-proxy has done with": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort}, nodePort: 30080, machines: three,
			want: []string{"10.87.0.2:30080 1", "10.87.0.3:30080 1"}, count: "2/2",
		},
		"of the VIP's family": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort}, nodePort: 30080, machines: three, vip: "fd87::2:10",
			want: []string{"[fd87::2]:30080 1", "[fd87::3]:30080 1"}, count: "2/2",
		},
		"without the nodes that no load balancer is to use": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort}, nodePort: 30080,
			machines: []Machine{machine("n2", labelled(labelExclude)), machine("n3")},
			want:     []string{"10.87.0.3:30080 1"}, count: "1/1",
		},
		"and those that a selector leaves out": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort, NodeSelector: edge}, nodePort: 30080,
			machines: []Machine{machine("n2", labelled("edge")), machine("n3")},
			want:     []string{"10.87.0.2:30080 1"}, count: "1/1",
		},
		"a Service without a nodePort cannot have it": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort}, machines: three,
			problem: "VIP 10.87.2.10: port 80/TCP stays closed: the Service has no nodePort for it",
		},
		"Nodes are this one too, at the frontend's port": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}, machines: three,
			want: []string{"10.87.0.1:80 1", "10.87.0.2:80 1", "10.87.0.3:80 1"}, count: "3/3",
		},
		"or at a port of their own": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, Port: 8080, NodeSelector: edge}, vip: "fd87::2:10",
			machines: []Machine{machine("n1", labelled("edge"), labelled(labelExclude)), machine("n2")},
			want:     []string{"[fd87::1]:8080 1"}, count: "1/1",
		},
		"a node without an address of the family is none": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes},
			machines: []Machine{machine("n1", func(m *Machine) { m.Addresses = m.Addresses[1:2] }), machine("n2")},
			want:     []string{"10.87.0.2:80 1"}, count: "1/1",
		},
		"a node that is not Ready keeps what it has": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}, machines: []Machine{machine("n1", unready), machine("n2")},
			want: []string{"10.87.0.1:80 0", "10.87.0.2:80 1"}, count: "1/2",
		},
		"and takes connections if no node is": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}, machines: []Machine{machine("n1", unready), machine("n2", unready)},
			want: []string{"10.87.0.1:80 1", "10.87.0.2:80 1"}, count: "2/2",
		},
		"no node matches": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, NodeSelector: edge}, machines: three, count: "0/0",
		},
		"a selector that cannot be read": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, NodeSelector: &metav1.LabelSelector{
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "edge", Operator: "Near"}},
			}},
			problem: "backends.nodeSelector cannot be read",
		},
		"Static are those listed, each once": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Port: 443, Addresses: []string{
				"2001:db8::21", "192.0.2.22", "192.0.2.21", "2001:0db8::21",
			}},
			want: []string{"192.0.2.21:443 1", "192.0.2.22:443 1"}, count: "2/2",
		},
		"in either family": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Addresses: []string{"2001:db8::21", "192.0.2.22", "2001:0db8::21"}},
			vip:      "fd87::2:10", want: []string{"[2001:db8::21]:80 1"}, count: "1/1",
		},
		"none of the family": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Addresses: []string{"2001:db8::21"}},
			problem:  "backends.addresses has none of the VIP's address family (2001:db8::21): add one",
		},
		"no address": {
			backends: &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Addresses: []string{"192.0.2.300"}},
			problem:  `backends.addresses has "192.0.2.300", which is not a plain IPv4 or IPv6 address`,
		},
		"a kind that is not known": {
			backends: &v1alpha1.Backends{Kind: "Virtual"}, problem: `backends.kind "Virtual" is not one of Pods, NodePort, Nodes, Static`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			frontend := web()
			frontend.Backends, frontend.NodePort = test.backends, test.nodePort
			if test.vip == "" {
				test.vip = "10.87.2.10"
			}
			result := node1(nil, test.machines, test.vip, frontend)
			if problem := fmt.Sprint(part(result, test.vip).Problem); test.problem != "" {
				if !strings.Contains(problem, test.problem) || len(result.State.Servers) != 0 {
					t.Errorf("problem %q with servers %v, want %q and none", problem, result.State.Servers, test.problem)
				}
				return
			}
			if len(problems(result)) > 0 || len(result.State.Servers) != 1 {
				t.Fatalf("problems %v, servers %v", problems(result), result.State.Servers)
			}
			if diff := cmp.Diff(test.want, lines(result.State.Servers[0].Backends)); diff != "" {
				t.Errorf("backends (-want +got):\n%s", diff)
			}
			if count := part(result, test.vip).Backends.String(); count != test.count {
				t.Errorf("count %s, want %s", count, test.count)
			}
		})
	}
}

func TestAStandbyBalancesAsTheHolderDoes(t *testing.T) {
	nodes, listed, pods := web(), web(), web()
	nodes.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}
	listed.Port, listed.Backends = 81, &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Port: 80, Addresses: []string{"10.87.0.1", "10.87.0.2"}}
	pods.Port = 82 // on the network of their nodes
	snapshot := Snapshot{
		VIPs: []*v1alpha1.VIP{vip("10.87.2.10", nodes, listed, pods)}, Node: "n1", Machines: []Machine{machine("n1"), machine("n2")},
		Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice {
			return []*discoveryv1.EndpointSlice{
				endpointSlice(discoveryv1.AddressTypeIPv4, "http", 80, endpoint{address: "10.87.0.1"}, endpoint{address: "10.87.0.2"}),
			}
		},
		Interfaces: []model.Interface{eth0},
	}
	want := []string{"10.87.0.1:80 1", "10.87.0.2:80 1"}
	for _, held := range []bool{false, true} {
		snapshot.Held = map[string]bool{"10.87.2.10": held}
		result := Node(snapshot)
		for _, server := range result.State.Servers {
			if diff := cmp.Diff(want, lines(server.Backends)); diff != "" {
				t.Errorf("held %v, port %d (-want +got):\n%s", held, server.Port, diff)
			}
		}
		if count := part(result, "10.87.2.10").Backends.String(); count != "6/6" {
			t.Errorf("held %v: count %s, want 6/6", held, count)
		}
	}
}

func TestSchedulers(t *testing.T) {
	for name, want := range map[v1alpha1.Scheduler]model.Scheduler{
		"":   {Name: "mh", Flags: model.FlagFallback | model.FlagPort},
		"mh": {Name: "mh", Flags: model.FlagFallback | model.FlagPort},
		"sh": {Name: "sh", Flags: model.FlagFallback},
		"rr": {Name: "rr"}, "wlc": {Name: "wlc"}, "ovf": {Name: "ovf"},
	} {
		frontend := web()
		frontend.Scheduler = name
		result := node1(nil, nil, "10.87.2.10", frontend)
		if len(problems(result)) > 0 || len(result.State.Servers) != 1 || result.State.Servers[0].Scheduler != want {
			t.Errorf("scheduler %q gives %v, problems %v; want %v", name, result.State.Servers, problems(result), want)
		}
	}
}

func TestAFrontendOfAnUnknownSchedulerIsLeftOutAlone(t *testing.T) {
	bad, good := web(), web()
	bad.Port, bad.Scheduler = 443, "fastest"
	result := node1(nil, nil, "10.87.2.10", good, bad)
	if len(result.State.Servers) != 1 || result.State.Servers[0].Port != 80 {
		t.Errorf("servers %v, want that of port 80", result.State.Servers)
	}
	want := `VIP 10.87.2.10: port 443/TCP stays closed: scheduler "fastest" is not one of mh, sh, rr`
	if problem := fmt.Sprint(part(result, "10.87.2.10").Problem); !strings.HasPrefix(problem, want) {
		t.Errorf("problem %q, want %q", problem, want)
	}
}
