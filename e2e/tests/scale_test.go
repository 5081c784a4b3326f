package tests

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// BenchmarkTenThousandServices measures the controller against the API server, with the speakers stopped: 10,000 Services
// from nothing to all EXTERNAL-IPs, one more among 10 and among 10,000, and a restart with 10,000. It needs a lab without
// kube-proxy (make bench-scale).
func BenchmarkTenThousandServices(b *testing.B) {
	services := 10_000
	if n, err := strconv.Atoi(os.Getenv("FAIRLEAD_SCALE")); err == nil {
		services = n
	} else {
		b.Skip("run by make bench-scale")
	}
	s, ctx := connect(b)
	nodes, err := s.Nodes(ctx)
	must(b, err)
	for _, node := range nodes {
		must(b, s.Fault(ctx, cluster.StopSpeaker, node))
	}
	_, err = s.CreatePool(ctx, "scale", "10.96.128.0/17")
	must(b, err)
	run := &scale{B: b, Scenario: s, shown: map[string]time.Time{}}
	run.watch(ctx)

	b.Run("one-more-among=10", func(b *testing.B) {
		run.fill(b, 10)
		run.oneMore(b)
	})
	b.Run(fmt.Sprintf("from-nothing=%d", services), func(b *testing.B) {
		for b.Loop() {
			run.fromNothing(b, services)
		}
		b.ReportMetric(0, "ns/op")
	})
	b.Run(fmt.Sprintf("one-more-among=%d", services), run.oneMore)
	b.Run(fmt.Sprintf("restart-with=%d", services), func(b *testing.B) {
		for b.Loop() {
			run.restart(b)
		}
		b.ReportMetric(0, "ns/op")
	})
}

// scale knows when each Service was seen with an address.
type scale struct {
	*testing.B
	*scenario.Scenario
	mu    sync.Mutex
	shown map[string]time.Time
	made  atomic.Int64
}

func (s *scale) watch(ctx context.Context) {
	watcher, err := s.Core.CoreV1().Services(scenario.Namespace).Watch(ctx, metav1.ListOptions{})
	must(s.B, err)
	s.Cleanup(watcher.Stop)
	go func() {
		for event := range watcher.ResultChan() {
			svc, ok := event.Object.(*corev1.Service)
			if !ok || event.Type == watch.Deleted || len(svc.Status.LoadBalancer.Ingress) == 0 {
				continue
			}
			s.mu.Lock()
			if _, again := s.shown[svc.Name]; !again {
				s.shown[svc.Name] = time.Now()
			}
			s.mu.Unlock()
		}
	}()
}

// create makes one Service without NodePorts, of which there are not enough.
func (s *scale) create(ctx context.Context) (name string, err error) {
	name = fmt.Sprintf("scale-%d", s.made.Add(1))
	_, err = s.CreateService(ctx, scenario.Service(name, single, func(service *corev1.Service) {
		service.Spec.AllocateLoadBalancerNodePorts, service.Spec.Selector = new(bool), nil
	}))
	return name, err
}

// fill makes Services until there are so many.
func (s *scale) fill(b *testing.B, services int) {
	b.Helper()
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(16)
	for range services - int(s.made.Load()) {
		group.Go(func() error {
			_, err := s.create(ctx)
			return err
		})
	}
	must(b, group.Wait())
}

// wait returns when all Services made have an address.
func (s *scale) wait(b *testing.B, most time.Duration) {
	b.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		missing := int(s.made.Load()) - len(s.shown)
		s.mu.Unlock()
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d Services have no address", missing)
		}
	}
}

func (s *scale) fromNothing(b *testing.B, services int) {
	s.stopControllers(b)
	s.fill(b, services)
	peak := s.peakMemory(b)
	before := s.requests(b)
	started := time.Now()
	must(b, s.Fault(context.Background(), cluster.StartController, ""))
	s.wait(b, 20*time.Minute)
	took := time.Since(started)
	b.ReportMetric(took.Seconds(), "s-to-all")
	s.quiet(b)
	b.ReportMetric(float64(s.requests(b)-before)/float64(services), "writes/service")
	b.ReportMetric(float64(peak())/(1<<20), "peak-MB")
}

// oneMore makes Services one at a time and reports how long each waits for its address.
func (s *scale) oneMore(b *testing.B) {
	ctx := context.Background()
	s.wait(b, time.Minute)
	s.quiet(b)
	for b.Loop() {
		var took []time.Duration
		before := s.requests(b)
		for range 100 {
			started := time.Now()
			name, err := s.create(ctx)
			must(b, err)
			s.wait(b, time.Minute)
			s.mu.Lock()
			took = append(took, s.shown[name].Sub(started))
			s.mu.Unlock()
		}
		b.ReportMetric(float64(s.requests(b)-before)/100, "writes/service")
		report(b, took)
	}
}

// quiet waits until the controller writes nothing: events follow their Services at a lower rate.
func (s *scale) quiet(b *testing.B) {
	b.Helper()
	for last := int64(-1); ; {
		now := s.requests(b)
		if now == last {
			return
		}
		last = now
		time.Sleep(3 * time.Second)
	}
}

// restart replaces the controllers and counts what the new ones write.
func (s *scale) restart(b *testing.B) {
	s.stopControllers(b)
	time.Sleep(20 * time.Second) // the Lease of the dead one runs out
	before := s.requests(b)
	peak := s.peakMemory(b)
	started := time.Now()
	must(b, s.Fault(context.Background(), cluster.StartController, ""))
	_, err := s.create(context.Background())
	must(b, err)
	s.wait(b, 5*time.Minute)
	b.ReportMetric(time.Since(started).Seconds(), "s-to-first-new")
	time.Sleep(20 * time.Second) // what else would be written
	b.ReportMetric(float64(s.requests(b)-before), "writes")
	b.ReportMetric(float64(peak())/(1<<20), "peak-MB")
}

// stopControllers kills both replicas: the second one as soon as it leads.
func (s *scale) stopControllers(b *testing.B) {
	b.Helper()
	ctx := context.Background()
	leader := ""
	for range 2 {
		must(b, scenario.Until(within(ctx, b), func() error {
			lease, err := s.Core.CoordinationV1().Leases(scenario.SystemNamespace).Get(ctx, "fairlead-controller", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if holder := lease.Spec.HolderIdentity; holder == nil || *holder == "" || *holder == leader {
				return errors.New("nobody new leads")
			}
			leader = *lease.Spec.HolderIdentity
			return nil
		}))
		must(b, s.Fault(ctx, cluster.KillController, ""))
	}
}

// peakMemory samples the resident memory of the controllers until the returned function gives the greatest, in bytes.
func (s *scale) peakMemory(b *testing.B) func() int64 {
	ctx, cancel := context.WithCancel(context.Background())
	peak := make(chan int64, 1)
	go func() {
		var most int64
		for ctx.Err() == nil {
			processes, err := s.Processes(ctx)
			if err != nil && ctx.Err() == nil {
				b.Error(err)
			}
			for _, p := range processes {
				if strings.HasPrefix(p.Name, "fairlead-controller") {
					most = max(most, p.RSS)
				}
			}
			time.Sleep(200 * time.Millisecond)
		}
		peak <- most
	}()
	return func() int64 { cancel(); return <-peak }
}

// requests counts the writes that the API server took from the controller: to VIPs, statuses of Services and of IPPools, and
// events. Nobody else makes them while the speakers are stopped.
func (s *scale) requests(b *testing.B) (total int64) {
	b.Helper()
	text, err := s.Core.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(context.Background())
	must(b, err)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line, ok := strings.CutPrefix(lines.Text(), "apiserver_request_total{")
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(line, "} ")
		is := func(parts ...string) bool {
			for _, part := range parts {
				if !strings.Contains(labels, part) {
					return false
				}
			}
			return true
		}
		write := !is(`verb="GET"`) && !is(`verb="LIST"`) && !is(`verb="WATCH"`)
		if write && (is(`resource="vips"`) || is(`resource="ippools"`) || is(`resource="services"`, `subresource="status"`) || is(`resource="events"`)) {
			count, err := strconv.ParseFloat(value, 64)
			must(b, err)
			total += int64(count)
		}
	}
	return total
}
