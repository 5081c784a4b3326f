package ipvs

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/pkg/model"
)

const benchBackends = 10

var benchSizes = []int{1000, 10000}

func benchServers(n int) []model.Server {
	servers := make([]model.Server, n)
	for i := range servers {
		addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		servers[i] = model.Server{
			Frontend:  model.Frontend{Addr: addr, Port: 80, Proto: model.TCP},
			Scheduler: model.MaglevByPort,
		}
		for j := range benchBackends {
			b := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(2 + j), byte(i >> 8), byte(i)}), 8080)
			servers[i].Backends = append(servers[i].Backends, model.Backend{Addr: b, Weight: 1})
		}
	}
	return servers
}

// changed returns the servers with one backend of the middle one drained.
func changed(servers []model.Server) []model.Server {
	other := append([]model.Server(nil), servers...)
	middle := &other[len(other)/2]
	middle.Backends = append([]model.Backend(nil), middle.Backends...)
	middle.Backends[0].Weight = 0
	return other
}

func BenchmarkDiff(b *testing.B) {
	for _, n := range benchSizes {
		servers := benchServers(n)
		copies := benchServers(n)
		other := changed(servers)
		for _, c := range []struct {
			name       string
			want, have []model.Server
			changes    int
		}{
			{"unchanged", servers, copies, 0},
			{"cold", servers, nil, n * (1 + benchBackends)},
			{"one", other, copies, 1},
		} {
			b.Run(fmt.Sprintf("%s/frontends=%d", c.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if changes := Diff(c.want, c.have, nothing); len(changes) != c.changes {
						b.Fatalf("%d changes, want %d", len(changes), c.changes)
					}
				}
			})
		}
	}
}

// BenchmarkKernel measures what a kernel with ip_vs takes: all at once, a resync that finds nothing to do, and one change.
// The last must cost the same at any size of the table.
func BenchmarkKernel(b *testing.B) {
	for _, n := range benchSizes {
		servers := benchServers(n)
		other := changed(servers)
		b.Run(fmt.Sprintf("cold/frontends=%d", n), func(b *testing.B) {
			k := real(b)
			b.ReportAllocs()
			for b.Loop() {
				apply(b, k, servers...)
				b.StopTimer()
				apply(b, k)
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprintf("unchanged/frontends=%d", n), func(b *testing.B) {
			k := real(b)
			apply(b, k, servers...)
			b.ReportAllocs()
			for b.Loop() {
				if applied := apply(b, k, servers...); applied != 0 {
					b.Fatalf("%d writes", applied)
				}
			}
		})
		b.Run(fmt.Sprintf("one/frontends=%d", n), func(b *testing.B) {
			k := real(b)
			apply(b, k, servers...)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				want := [][]model.Server{other, servers}[i%2][n/2]
				have, found, err := k.Server(want.Frontend)
				if err != nil || !found {
					b.Fatal(found, err)
				}
				if applied, err := k.Apply(Diff([]model.Server{want}, []model.Server{have}, nothing)); applied != 1 || err != nil {
					b.Fatal(applied, err)
				}
			}
		})
	}
}
