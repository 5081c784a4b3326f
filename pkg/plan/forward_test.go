package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// onNode is the plan of a node for one VIP, with ready pods at port 80 on the nodes named.
func onNode(node string, held bool, v *v1alpha1.VIP, pods ...endpoint) Result {
	return Node(Snapshot{
		VIPs: []*v1alpha1.VIP{v}, Node: node, Machines: []Machine{machine("n1"), machine("n2"), machine("n3")},
		Held: map[string]bool{v.Name: held}, Interfaces: []model.Interface{eth0},
		Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice {
			return []*discoveryv1.EndpointSlice{endpointSlice(discoveryv1.AddressTypeIPv4, "http", 80, pods...)}
		},
	})
}

// forwards are the backends of the only server, with how they are forwarded to.
func forwards(result Result) (out []string) {
	for _, server := range result.State.Servers {
		for _, b := range server.Backends {
			out = append(out, fmt.Sprintf("%s %d %s", b.Addr, b.Weight, b.Forwarding))
		}
	}
	return out
}

func forwarded(forwarding v1alpha1.Forwarding, backends *v1alpha1.Backends) v1alpha1.Frontend {
	f := web()
	f.Forwarding, f.Backends = forwarding, backends
	return f
}

var nodes = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}

func TestForwarding(t *testing.T) {
	pod, hostPod := endpoint{address: "10.244.2.2", node: "n2"}, endpoint{address: "10.87.0.2", node: "n2"}
	for name, test := range map[string]struct {
		frontend v1alpha1.Frontend
		vip      string
		pod      endpoint
		want     []string
		problem  string
	}{
		"directly to nodes": {
			frontend: forwarded(v1alpha1.ForwardDirect, nodes),
			want:     []string{"10.87.0.1:80 1 direct", "10.87.0.2:80 1 direct", "10.87.0.3:80 1 direct"},
		},
		"by tunnel to nodes": {
			frontend: forwarded(v1alpha1.ForwardTunnel, nodes), vip: "fd87::2:10",
			want: []string{"[fd87::1]:80 1 tunnel", "[fd87::2]:80 1 tunnel", "[fd87::3]:80 1 tunnel"},
		},
		"by tunnel to an address of the other family, if there is none of its own": {
			frontend: forwarded(v1alpha1.ForwardTunnel, &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Addresses: []string{"192.0.2.1"}}),
			vip:      "fd87::2:10", want: []string{"192.0.2.1:80 1 tunnel"},
		},
		"directly to pods on the host's network": {
			frontend: forwarded(v1alpha1.ForwardDirect, nil), pod: hostPod, want: []string{"10.87.0.2:80 1 direct"},
		},
		"never directly to pods": {
			frontend: forwarded(v1alpha1.ForwardDirect, nil), pod: pod, want: []string{"10.244.2.2:80 1 masquerade"},
			problem: "port 80/TCP is masqueraded: forwarding Direct needs backends that have the VIP themselves, and 10.244.2.2:80 is a pod",
		},
		"never directly to another port": {
			frontend: forwarded(v1alpha1.ForwardDirect, &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Port: 81, Addresses: []string{"192.0.2.1"}}),
			want:     []string{"192.0.2.1:81 1 masquerade"}, problem: "backend 192.0.2.1:81 listens on another one",
		},
		"in no way that is not known": {
			frontend: forwarded("Teleport", nil), pod: pod, want: []string{"10.244.2.2:80 1 masquerade"},
			problem: `forwarding "Teleport" is not one of Masquerade, Direct, Tunnel`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if test.vip == "" {
				test.vip = "10.87.2.10"
			}
			result := onNode("n1", true, vip(test.vip, test.frontend), test.pod)
			if diff := cmp.Diff(test.want, forwards(result)); diff != "" {
				t.Errorf("backends (-want +got):\n%s", diff)
			}
			problem := fmt.Sprint(part(result, test.vip).Problem)
			if test.problem == "" && part(result, test.vip).Problem != nil || !strings.Contains(problem, test.problem) {
				t.Errorf("problem %s, want %q", problem, test.problem)
			}
		})
	}
}

func TestABackendThatHasTheVIPReceivesAndDoesNotBalance(t *testing.T) {
	v := vip("10.87.2.10", forwarded(v1alpha1.ForwardTunnel, nodes))
	key := model.Frontend{Addr: netip.MustParseAddr("10.87.2.10"), Port: 80, Proto: model.TCP}
	standby := onNode("n1", false, v)
	if want := []model.Receiver{{Frontend: key, Wrapped: netip.MustParseAddr("10.87.0.1")}}; !slices.Equal(standby.State.Receivers, want) || len(standby.State.Servers) != 0 {
		t.Errorf("a backend has servers %v and receives %v, want only %v", standby.State.Servers, standby.State.Receivers, want)
	}
	if holder := onNode("n1", true, v); len(holder.State.Receivers) != 0 || len(forwards(holder)) != 3 {
		t.Errorf("the holder receives %v and forwards to %v, want nothing and all 3", holder.State.Receivers, forwards(holder))
	}
	if other := onNode("n4", false, v); len(other.State.Receivers) != 0 || len(forwards(other)) != 3 {
		t.Errorf("a standby that is no backend receives %v and forwards to %v, want nothing and all 3", other.State.Receivers, forwards(other))
	}
}

func TestIsolatedVIPsAreMasqueraded(t *testing.T) {
	v := vip("10.87.2.10", forwarded(v1alpha1.ForwardDirect, nodes))
	result := Node(Snapshot{
		VIPs: []*v1alpha1.VIP{v}, Node: "n1", Machines: []Machine{machine("n2")}, Isolated: true, Slices: noEndpoints,
	})
	if got := forwards(result); !slices.Equal(got, []string{"10.87.0.2:80 1 masquerade"}) ||
		!strings.Contains(fmt.Sprint(part(result, v.Name).Problem), "run the speakers with --placement=host") {
		t.Errorf("backends %v, problem %v", got, part(result, v.Name).Problem)
	}
}

func TestNodeLevelBackendsSeeTheVIP(t *testing.T) {
	for address, want := range map[string]int{"10.87.2.10": 3, "192.0.2.10": 0} { // the second is in no network of the node
		result := onNode("n1", true, vip(address, forwarded("", nodes)))
		if len(result.State.Translations) != want {
			t.Errorf("%s: translations %v, want %d", address, result.State.Translations, want)
		}
		for _, translation := range result.State.Translations {
			if translation.Source != model.FromVIP {
				t.Errorf("%s: source %v", address, translation.Source)
			}
		}
	}
}

func TestWeightsAndLimits(t *testing.T) {
	backends := &v1alpha1.Backends{
		Kind: v1alpha1.BackendNodes, Weights: map[string]v1alpha1.Weight{"n1": 3, "n2": 0, "10.87.0.3": 5}, MaxConnections: 100,
	}
	v6 := vip("fd87::2:10", forwarded("", &v1alpha1.Backends{
		Kind: v1alpha1.BackendStatic, Addresses: []string{"fd00::1", "fd00::2"}, Weights: map[string]v1alpha1.Weight{"FD00:0::1": 2},
	}))
	if got := lines(onNode("n1", true, v6).State.Servers[0].Backends); !slices.Equal(got, []string{"[fd00::1]:80 2", "[fd00::2]:80 1"}) {
		t.Errorf("backends %v", got)
	}
	for _, b := range onNode("n1", true, vip("10.87.2.10", forwarded("", backends))).State.Servers[0].Backends {
		want := map[string]uint16{"10.87.0.1": 3, "10.87.0.2": 0, "10.87.0.3": 5}[b.Addr.Addr().String()]
		if b.Weight != want || b.MaxConnections != 100 {
			t.Errorf("backend %v, want weight %d and 100 connections at most", b, want)
		}
	}
}

func TestAffinityKeepsClientsOnEveryNodeAlike(t *testing.T) {
	for scheduler, want := range map[v1alpha1.Scheduler]model.Scheduler{"": model.Maglev, "mh": model.Maglev, "rr": {Name: "rr"}} {
		f := web()
		f.AffinitySeconds, f.Scheduler = 600, scheduler
		server := onNode("n1", true, vip("10.87.2.10", f)).State.Servers[0]
		if server.Scheduler != want || server.Persistence != 600 {
			t.Errorf("scheduler %q: %v for %d s, want %v for 600 s", scheduler, server.Scheduler, server.Persistence, want)
		}
	}
}

func TestLocalTrafficStaysOnItsNode(t *testing.T) {
	f := web()
	f.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	v := vip("10.87.2.10", f)
	pods := []endpoint{{address: "10.244.1.2", node: "n1"}, {address: "10.244.2.2", node: "n2"}}
	result := onNode("n1", true, v, pods...)
	if got := forwards(result); !slices.Equal(got, []string{"10.244.1.2:80 1 masquerade"}) {
		t.Errorf("backends %v, want the node's own pod", got)
	}
	addr := netip.MustParseAddr("10.87.2.10")
	want := []model.Translation{{VIP: addr, Proto: model.TCP, Backend: netip.MustParseAddrPort("10.244.1.2:80"), Source: model.FromClient}}
	if !slices.Equal(result.State.Translations, want) {
		t.Errorf("translations %v, want %v", result.State.Translations, want)
	}
	if !slices.Contains(result.State.Inside, netip.MustParsePrefix("10.244.1.2/32")) {
		t.Errorf("inside are %v, want the pod, which would not answer itself past IPVS", result.State.Inside)
	}

	for _, held := range []bool{false, true} {
		if without := onNode("n3", held, v, pods...); len(without.State.Servers) != 1 || len(forwards(without)) != 0 {
			t.Errorf("a node without pods, holder %v, balances %v, want a server that refuses", held, without.State.Servers)
		}
	}

	machines := []Machine{machine("n1", speaks), machine("n2", speaks), machine("n3", speaks)}
	candidates := func(pods ...endpoint) Candidacy {
		return Candidates(v, machines, func(types.NamespacedName) []*discoveryv1.EndpointSlice {
			return []*discoveryv1.EndpointSlice{endpointSlice(discoveryv1.AddressTypeIPv4, "http", 80, pods...)}
		})
	}
	got := candidates(pods...)
	if !slices.Equal(got.Nodes, []string{"n1", "n2"}) || !strings.Contains(got.Excluded["n3"], "no ready pod of Service default/web runs there") {
		t.Errorf("candidates %v, excluded %v", got.Nodes, got.Excluded)
	}
	leaving := endpoint{address: "10.244.3.2", node: "n3", ready: ptr(false), serving: ptr(true), terminating: ptr(true)}
	if got := candidates(append(pods, leaving)...).Nodes; !slices.Equal(got, []string{"n1", "n2"}) {
		t.Errorf("with a pod that terminates on n3 the candidates are %v", got)
	}
	if got := candidates(leaving).Nodes; !slices.Equal(got, []string{"n3"}) {
		t.Errorf("with nothing but a pod that terminates on n3 the candidates are %v", got)
	}
	if got := candidates(); len(got.Nodes) != 0 {
		t.Errorf("without pods the candidates are %v", got.Nodes)
	}
}

func speaks(m *Machine) { m.Interfaces = []model.Interface{eth0} }

func TestNodePortsOfALocalServiceAreThoseOfNodesWithPods(t *testing.T) {
	f := forwarded("", &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort})
	f.NodePort, f.ExternalTrafficPolicy = 30080, corev1.ServiceExternalTrafficPolicyLocal
	got := forwards(onNode("n1", true, vip("10.87.2.10", f), endpoint{address: "10.244.3.2", node: "n3"}))
	if !slices.Equal(got, []string{"10.87.0.3:30080 1 masquerade"}) {
		t.Errorf("backends %v, want node n3, which has a pod", got)
	}
}
