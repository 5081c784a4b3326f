package plan

import (
	"net/netip"
	"slices"
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

var eth0 = model.Interface{Name: "eth0", Prefixes: []netip.Prefix{
	netip.MustParsePrefix("10.87.0.0/16"), netip.MustParsePrefix("fd87::/64"),
}}

func ptr[T any](value T) *T { return &value }

type endpoint struct {
	address                     string
	ready, serving, terminating *bool
	node                        string
}

func endpointSlice(family discoveryv1.AddressType, port string, number int32, endpoints ...endpoint) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		AddressType: family,
		Ports:       []discoveryv1.EndpointPort{{Name: &port, Port: &number, Protocol: ptr(corev1.ProtocolTCP)}},
	}
	for _, e := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{e.address},
			NodeName:   &e.node,
			Conditions: discoveryv1.EndpointConditions{Ready: e.ready, Serving: e.serving, Terminating: e.terminating},
		})
	}
	return slice
}

func vip(address string, frontends ...v1alpha1.Frontend) *v1alpha1.VIP {
	return &v1alpha1.VIP{
		ObjectMeta: metav1.ObjectMeta{Name: address},
		Spec:       v1alpha1.VIPSpec{Address: address, Pool: "lab", Frontends: frontends},
	}
}

func web() v1alpha1.Frontend {
	return v1alpha1.Frontend{
		Port: 80, Protocol: corev1.ProtocolTCP, PortName: "http",
		Service: v1alpha1.ServiceReference{Namespace: "default", Name: "web"},
	}
}

// part is that of a VIP in a result, which may have none of it.
func part(result Result, vip string) Part {
	for _, part := range result.Parts {
		if part.VIP == vip {
			return *part
		}
	}
	return Part{}
}

func problems(result Result) (out []error) {
	for _, part := range result.Parts {
		if part.Problem != nil {
			out = append(out, part.Problem)
		}
	}
	return out
}

func TestNodePlansStandbysAndHolders(t *testing.T) {
	result := Node(Snapshot{
		VIPs: []*v1alpha1.VIP{vip("10.87.2.10", web()), vip("10.87.2.11", web()), vip("fd87::2:10", web())},
		Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice {
			return []*discoveryv1.EndpointSlice{
				endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, endpoint{address: "10.244.1.2"}),
				endpointSlice(discoveryv1.AddressTypeIPv6, "http", 8080, endpoint{address: "fd00:244:1::2"}),
			}
		},
		Interfaces: []model.Interface{eth0},
		Held:       map[string]bool{"10.87.2.11": true},
	})
	if len(result.State.VIPs) != 3 || len(result.State.Servers) != 3 {
		t.Errorf("a node is ready to hold %v with %d servers, want all 3", result.State.VIPs, len(result.State.Servers))
	}
	want := []model.Binding{{Addr: netip.MustParseAddr("10.87.2.11"), Interface: "eth0"}}
	if !slices.Equal(result.State.Bindings, want) {
		t.Errorf("bindings %v, want %v", result.State.Bindings, want)
	}
	if count := part(result, "10.87.2.10").Backends.String(); count != "1/1" {
		t.Errorf("backends %s, want 1/1", count)
	}
}

func TestABadVIPCostsNoOtherAnything(t *testing.T) {
	bad := web()
	bad.SourceRanges = []string{"everybody"}
	result := Node(Snapshot{
		VIPs:   []*v1alpha1.VIP{vip("not-an-address"), vip("10.87.2.10", bad), vip("10.87.2.11", web())},
		Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice { return nil },
	})
	for name, text := range map[string]string{"not-an-address": `"not-an-address" is not an address`, "10.87.2.10": `"everybody" is not a CIDR`} {
		if err := part(result, name).Problem; err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("problem of %s: %v", name, err)
		}
	}
	if part(result, "10.87.2.11").Problem != nil || len(result.State.VIPs) != 2 {
		t.Errorf("problems %v, VIPs %v", problems(result), result.State.VIPs)
	}
}

func TestAFrontendWhoseSourceRangesAreBadIsNotOpenToEverybody(t *testing.T) {
	for name, ranges := range map[string][]string{
		"one cannot be read": {"10.0.0.0/8", "everybody"}, "all are of the other family": {"fd00::/8"},
	} {
		bad := web()
		bad.SourceRanges = ranges
		result := Node(Snapshot{
			VIPs:   []*v1alpha1.VIP{vip("10.87.2.10", bad)},
			Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice { return nil },
		})
		if len(result.State.Servers) != 0 || part(result, "10.87.2.10").Problem == nil {
			t.Errorf("%s: servers %v, problem %v; want a closed port", name, result.State.Servers, problems(result))
		}
	}
}

func TestInterface(t *testing.T) {
	storage := model.Interface{Name: "eth1", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.87.2.0/24")}}
	both := []model.Interface{eth0, storage}
	for name, test := range map[string]struct {
		vip     string
		allowed []string
		want    string
		err     string
	}{
		"the interface with the longest prefix around the VIP": {vip: "10.87.2.10", want: "eth1"},
		"the only one in its network":                          {vip: "fd87::9", want: "eth0"},
		"the first that the pool names and the node has":       {vip: "192.0.2.1", allowed: []string{"bond0", "eth0"}, want: "eth0"},
		"none in its network":                                  {vip: "192.0.2.1", err: "no interface is in the network of 192.0.2.1 (the node has eth0"},
		"none of those that the pool names":                    {vip: "10.87.2.10", allowed: []string{"bond0"}, err: "none of the interfaces bond0"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Interface(both, netip.MustParseAddr(test.vip), test.allowed)
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, test.want, test.err)
			}
		})
	}
}

func noEndpoints(types.NamespacedName) []*discoveryv1.EndpointSlice { return nil }

func TestCandidates(t *testing.T) {
	good := Machine{Name: "good", Ready: true, Interfaces: []model.Interface{eth0}, Labels: map[string]string{"rack": "1"}}
	change := func(name string, edit func(*Machine)) Machine {
		m := good
		m.Name = name
		edit(&m)
		return m
	}
	machines := []Machine{
		good,
		change("silent", func(m *Machine) { m.Interfaces = nil }),
		change("excluded", func(m *Machine) { m.Labels = map[string]string{"rack": "1", labelExclude: ""} }),
		change("elsewhere", func(m *Machine) { m.Labels = map[string]string{"rack": "2"} }),
		change("unfit", func(m *Machine) { m.Unfit = []string{"10.87.2.10"} }),
		change("remote", func(m *Machine) { m.Interfaces = []model.Interface{{Name: "eth0"}} }),
		change("unready", func(m *Machine) { m.Ready = false }),
	}
	v := vip("10.87.2.10", web())
	v.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"rack": "1"}}
	got := Candidates(v, machines, noEndpoints)
	if diff := cmp.Diff([]string{"good"}, got.Nodes); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
	for name, reason := range map[string]string{
		"silent": "no speaker runs there", "excluded": labelExclude, "elsewhere": "spec.nodeSelector of IPPool lab",
		"unfit": "could not program", "remote": "no interface is in the network", "unready": "not Ready",
	} {
		if !strings.Contains(got.Excluded[name], reason) {
			t.Errorf("%s is excluded because %q, want %q", name, got.Excluded[name], reason)
		}
	}
	if got := Candidates(v, machines[1:], noEndpoints); !slices.Equal(got.Nodes, []string{"unready"}) {
		t.Errorf("with no node Ready the candidates are %v, want the one that is merely not Ready", got.Nodes)
	}
}
