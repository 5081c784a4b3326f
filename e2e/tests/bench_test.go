package tests

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// report gives the median, the 99th percentile and the greatest of durations, in milliseconds.
func report(b *testing.B, all []time.Duration) {
	b.Helper()
	slices.Sort(all)
	at := func(q float64) float64 {
		return float64(all[min(len(all)-1, int(q*float64(len(all))))]) / float64(time.Millisecond)
	}
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(at(1), "max-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkFirstAnswer measures from the creation of a dual-stack Service to the first answer at the client, on the address
// that answers last. One pod is there already. 50 times.
func BenchmarkFirstAnswer(b *testing.B) {
	s, _ := connect(b)
	ctx := context.Background()
	pool(b, s)
	must(b, s.AddWebPods(ctx, "first", "n1"))
	defer func() { must(b, s.DeletePod(ctx, "first-1")) }()
	addresses := expect(b, s, "first")
	for b.Loop() {
		var took []time.Duration
		for range 50 {
			took = append(took, firstAnswer(b, s, addresses))
		}
		report(b, took)
	}
}

// expect creates a Service to learn which addresses it gets, and deletes it: the next one gets the same.
func expect(b *testing.B, s *scenario.Scenario, name string) []netip.Addr {
	b.Helper()
	ctx := within(context.Background(), b)
	_, err := s.CreateService(ctx, scenario.Service(name))
	must(b, err)
	addresses, err := s.Addresses(ctx, name, 2)
	must(b, err)
	remove(b, s, name, addresses)
	return addresses
}

func remove(b *testing.B, s *scenario.Scenario, name string, addresses []netip.Addr) {
	b.Helper()
	ctx := within(context.Background(), b)
	must(b, s.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	must(b, s.Gone(ctx, addresses...))
}

func firstAnswer(b *testing.B, s *scenario.Scenario, addresses []netip.Addr) time.Duration {
	b.Helper()
	ctx := within(context.Background(), b)
	probe, err := s.Probe(ctx, "client", cluster.ProbeOptions{Every: 50 * time.Millisecond}, urls(addresses)...)
	must(b, err)
	for range addresses {
		event, err := probe.Next(ctx) // the first event of each: it does not answer yet
		must(b, err)
		if event.Up {
			b.Fatalf("%s answers before its Service exists", event.URL)
		}
	}
	started := time.Now()
	_, err = s.CreateService(ctx, scenario.Service("first"))
	must(b, err)
	answered := map[string]bool{}
	for len(answered) < len(addresses) {
		event, err := probe.Next(ctx)
		must(b, err)
		if event.Up {
			answered[event.URL] = true
		}
	}
	took := time.Since(started)
	_, err = probe.Stop()
	must(b, err)
	remove(b, s, "first", addresses)
	return took
}

// BenchmarkMemory reports the resident memory of idle speakers and controllers, the greatest of each, in MB.
func BenchmarkMemory(b *testing.B) {
	s, ctx := connect(b)
	for b.Loop() {
		processes, err := s.Processes(ctx)
		must(b, err)
		greatest := map[string]float64{}
		for _, process := range processes {
			for _, kind := range []string{"fairlead-speaker", "fairlead-controller"} {
				if strings.HasPrefix(process.Name, kind) {
					greatest[kind] = max(greatest[kind], float64(process.RSS)/(1<<20))
				}
			}
		}
		for kind, size := range greatest {
			b.ReportMetric(size, kind+"-MB")
		}
	}
	b.ReportMetric(0, "ns/op")
}
