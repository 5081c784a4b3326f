package health

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// BenchmarkFiveThousandChecks checks 5,000 backends once a second each, TCP over the loopback interface, for ten seconds an
// iteration, and reports how many checks a second were made and how late they started. In the second case a network of twice
// as many backends never answers, besides, and what is reported is that of the others. Run it with -benchtime 1x.
func BenchmarkFiveThousandChecks(b *testing.B) {
	for name, hanging := range map[string]int{"all answer": 0, "a network hangs": 10000} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				benchmarkChecks(b, 5000, hanging)
			}
		})
	}
}

const benchFor = 10 * time.Second

// hole is a network whose checks hang until their timeout.
var hole = netip.MustParsePrefix("198.51.100.0/24")

func benchmarkChecks(b *testing.B, answering, hanging int) {
	var mu sync.Mutex
	var late []time.Duration
	var failed int
	checker := New(Config{Notify: func() {}, Observe: func(target model.Target, after time.Duration, err error) {
		if hole.Contains(target.Addr.Addr()) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		late = append(late, after)
		if err != nil {
			failed++
		}
	}})
	real := checker.probe
	checker.probe = func(ctx context.Context, target model.Target) error {
		if hole.Contains(target.Addr.Addr()) {
			<-ctx.Done()
			return ctx.Err()
		}
		return real(ctx, target)
	}
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	port := accept(ctx, b)
	targets := map[model.Target]bool{}
	add := func(addr netip.Addr, port uint16) {
		targets[model.Target{Addr: netip.AddrPortFrom(addr, port), Check: model.Check{
			Type: model.CheckTCP, Interval: time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3,
		}}] = true
	}
	for i := range answering {
		add(netip.AddrFrom4([4]byte{127, byte(1 + i>>16), byte(i >> 8), byte(i)}), port)
	}
	for i := range hanging {
		add(hole.Addr(), uint16(i+1))
	}
	checker.Change(targets)
	var work sync.WaitGroup
	work.Go(func() { checker.Run(ctx) })
	time.Sleep(startWithin) // the first checks are spread over this
	mu.Lock()
	late, failed = nil, 0
	mu.Unlock()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	started := time.Now()
	time.Sleep(benchFor)
	mu.Lock()
	took, all, bad := time.Since(started), slices.Sorted(slices.Values(late)), failed
	mu.Unlock()
	runtime.ReadMemStats(&after)
	cancel()
	work.Wait()
	if len(all) == 0 {
		b.Fatal("nothing was checked")
	}
	b.ReportMetric(float64(len(all))/took.Seconds(), "checks/s")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(len(all)), "allocs/check")
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-late-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-late-ms")
	b.ReportMetric(float64(bad), "failed")
}

// accept takes every connection to 127.0.0.0/8 on a port until the context ends.
func accept(ctx context.Context, b *testing.B) uint16 {
	b.Helper()
	listener, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	context.AfterFunc(ctx, func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				if ctx.Err() != nil {
					return
				}
				continue // a connection that was reset before it was taken
			}
			conn.Close()
		}
	}()
	addr, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		b.Fatal(fmt.Errorf("the listener's address: %w", err))
	}
	return addr.Port()
}
