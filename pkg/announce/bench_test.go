package announce

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// BenchmarkKernelFirstAnnouncement measures how long after VIPs were handed to the announcer, as they are once they are bound, a
// neighbour that knew them under another MAC address sends to this host: p50, p99 and max over single VIPs.
func BenchmarkKernelFirstAnnouncement(b *testing.B) {
	for _, family := range []struct{ name, first string }{{"ipv4", "10.0.0.100"}, {"ipv6", "fd00::100"}} {
		for _, count := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/vips=%d", family.name, count), func(b *testing.B) {
				var bindings []model.Binding
				for addr := netip.MustParseAddr(family.first); len(bindings) < count; addr = addr.Next() {
					bindings = append(bindings, model.Binding{Addr: addr, Interface: "eth0"})
				}
				measureFirst(b, bindings)
			})
		}
	}
}

func measureFirst(b *testing.B, bindings []model.Binding) {
	neighbour, host, a := pair(b, Config{Allowed: always, OnError: func(v model.Binding, err error) { b.Errorf("%v: %v", v, err) }})
	mac := macOf(host)
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		a.Set(nil)
		for _, v := range bindings {
			neighbour.Learn(v.Addr.String(), oldMAC)
		}
		b.StartTimer()
		start := time.Now()
		a.Set(bindings)
		for _, v := range bindings {
			for !bytes.Equal(neighbour.Neighbour(v.Addr.String()), mac) {
				if time.Since(start) > 10*time.Second {
					b.Fatalf("no neighbour heard of %s", v.Addr)
				}
			}
			took = append(took, time.Since(start))
		}
	}
	slices.Sort(took)
	for _, p := range []struct {
		unit string
		at   int
	}{{"p50-ms", len(took) / 2}, {"p99-ms", len(took) * 99 / 100}, {"max-ms", len(took) - 1}} {
		b.ReportMetric(float64(took[p.at].Microseconds())/1000, p.unit)
	}
}
