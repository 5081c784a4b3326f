package plan

import (
	"fmt"
	"net/netip"
	"testing"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/model"
)

// What a large cluster is taken for.
const (
	benchBackends = 10
	benchMachines = 10
)

var benchSizes = []int{1000, 10000}

// benchSnapshot is of node n1, which holds one VIP in ten, with n VIPs of one port, each of a Service with ten endpoints.
func benchSnapshot(n int) Snapshot {
	s := Snapshot{Node: "n1", Interfaces: []model.Interface{eth0}, Held: map[string]bool{}}
	for i := range benchMachines {
		s.Machines = append(s.Machines, machine(fmt.Sprintf("n%d", i+1), func(m *Machine) { m.Interfaces = s.Interfaces }))
	}
	endpoints := make(map[types.NamespacedName][]*discoveryv1.EndpointSlice, n)
	for i := range n {
		address := netip.AddrFrom4([4]byte{10, 87, byte(100 + i>>8), byte(i)}).String()
		frontend := web()
		frontend.Service.Name = fmt.Sprintf("web-%d", i)
		v := vip(address, frontend)
		v.UID = types.UID(address)
		s.VIPs = append(s.VIPs, v)
		s.Held[address] = i%benchMachines == 0
		var of []endpoint
		for j := range benchBackends {
			of = append(of, endpoint{address: fmt.Sprintf("10.%d.%d.%d", 128+j, i>>8, i&255), node: fmt.Sprintf("n%d", j+1)})
		}
		endpoints[serviceOf(&frontend)] = []*discoveryv1.EndpointSlice{endpointSlice(discoveryv1.AddressTypeIPv4, "http", 8080, of...)}
	}
	s.Slices = func(service types.NamespacedName) []*discoveryv1.EndpointSlice { return endpoints[service] }
	return s
}

// BenchmarkPlanner is what an event costs before anything of it is in the kernel: one endpoint in one EndpointSlice changed.
func BenchmarkPlanner(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("one/frontends=%d", n), func(b *testing.B) {
			snapshot := benchSnapshot(n)
			service := serviceOf(&snapshot.VIPs[n/2].Spec.Frontends[0])
			before := snapshot.Slices(service)
			changed := []*discoveryv1.EndpointSlice{before[0].DeepCopy()}
			changed[0].Endpoints = changed[0].Endpoints[1:]
			original, turn := snapshot.Slices, 0
			snapshot.Slices = func(of types.NamespacedName) []*discoveryv1.EndpointSlice {
				if of == service && turn%2 == 1 {
					return changed
				}
				return original(of)
			}
			var planner Planner
			planner.Node(snapshot)
			b.ReportAllocs()
			for b.Loop() {
				turn++
				planner.Candidates(snapshot.VIPs, snapshot.Machines, snapshot.Slices)
				if result := planner.Node(snapshot); len(result.State.Servers) != n {
					b.Fatalf("%d servers", len(result.State.Servers))
				}
			}
		})
	}
}

// BenchmarkNode is the plan of everything, as at a start or after a Node changed.
func BenchmarkNode(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("frontends=%d", n), func(b *testing.B) {
			snapshot := benchSnapshot(n)
			b.ReportAllocs()
			for b.Loop() {
				if result := Node(snapshot); len(result.State.Servers) != n {
					b.Fatalf("%d servers", len(result.State.Servers))
				}
			}
		})
	}
}

func BenchmarkCandidates(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("vips=%d", n), func(b *testing.B) {
			snapshot := benchSnapshot(n)
			b.ReportAllocs()
			for b.Loop() {
				for _, vip := range snapshot.VIPs {
					if found := Candidates(vip, snapshot.Machines, snapshot.Slices); len(found.Nodes) != benchMachines {
						b.Fatal(found)
					}
				}
			}
		})
	}
}
