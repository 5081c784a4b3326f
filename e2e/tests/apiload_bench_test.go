package tests

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/election"
)

const (
	// settleFor passes between the moment in which all VIPs are held and the first that is counted.
	settleFor = 5 * time.Second
	// holdMost bounds the wait until all VIPs are held. What the API server cannot carry is reported as it is.
	holdMost = 5 * time.Minute
)

// BenchmarkAPILoad counts what it asks of the API server to elect a holder for each VIP, at rest and when one of the candidates
// dies: by package election, and by client-go's leaderelection with a Lease for each VIP, with the same timing and with the
// timing that Kubernetes' own components have. Candidates are of this process, each with a connection of its own; nobody but the
// Leases tells of the death. client-go's numbers of VIPs are what the API server carries. It needs a lab whose API server and
// processors have little else to do (make bench-api).
func BenchmarkAPILoad(b *testing.B) {
	s, ctx := connect(b)
	nodes, err := s.Nodes(ctx)
	must(b, err)
	if len(nodes) != 1 {
		b.Skip("needs a lab with one node: run by make bench-api")
	}
	config, err := s.Kubeconfig()
	must(b, err)
	timing := election.DefaultTiming()
	rivals := []size{{3, []int{10, 100, 1000}}, {20, []int{10, 100}}}
	for _, way := range []struct {
		name  string
		enter func(l *apiLoad)
		sizes []size
	}{
		{"fairlead", enterElectors, []size{{3, []int{10, 1000, 10_000}}, {20, []int{10, 1000, 10_000}}}},
		{"client-go", enterLeaders(timing.TTake, timing.TSelf, timing.RenewEvery), rivals},
		{"client-go-default", enterLeaders(15*time.Second, 10*time.Second, 2*time.Second), rivals},
	} {
		for _, size := range way.sizes {
			for _, vips := range size.vips {
				b.Run(fmt.Sprintf("by=%s/speakers=%d/vips=%d", way.name, size.speakers, vips), func(b *testing.B) {
					for b.Loop() {
						l := &apiLoad{B: b, config: rest.CopyConfig(config), speakers: size.speakers, vips: vips}
						l.config.Wrap(l.traffic.count)
						l.enter(s, way.enter)
						l.measure()
					}
					b.ReportMetric(0, "ns/op")
				})
			}
		}
	}
}

// size is a number of candidates, and how many VIPs they are tried with.
type size struct {
	speakers int
	vips     []int
}

// candidate takes part in the election of each VIP's holder, as a process on a node of its own does.
type candidate interface {
	// holds is how many VIPs it holds.
	holds() int
	// die ends it without a word to the others.
	die()
}

// apiLoad is one election.
type apiLoad struct {
	*testing.B
	config         *rest.Config // counts what is asked
	namespace      string       // of the Leases
	speakers, vips int
	candidates     []candidate
	traffic        traffic
	lost           atomic.Int64 // times that one who lives lost a VIP
}

// enter has the candidates take part in a namespace of their own, which ends with the benchmark.
func (l *apiLoad) enter(s *scenario.Scenario, enter func(*apiLoad)) {
	ctx := context.Background()
	made, err := s.Core.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "api-load-"},
	}, metav1.CreateOptions{})
	must(l.B, err)
	l.namespace = made.Name
	l.Cleanup(func() {
		for _, c := range l.candidates {
			c.die()
		}
		must(l.B, s.Core.CoordinationV1().Leases(l.namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
		must(l.B, s.Core.CoreV1().Namespaces().Delete(ctx, l.namespace, metav1.DeleteOptions{}))
	})
	enter(l)
}

// held is how many VIPs the candidates but one hold.
func (l *apiLoad) held(but candidate) (count int) {
	for _, c := range l.candidates {
		if c != but {
			count += c.holds()
		}
	}
	return count
}

// await waits until the candidates but one hold all VIPs and returns how many they hold then, or in the end. With client-go
// there may be more than VIPs: one that cannot renew believes to lead until its deadline.
func (l *apiLoad) await(but candidate) (held int) {
	ctx, cancel := context.WithTimeout(context.Background(), holdMost)
	defer cancel()
	err := scenario.Until(ctx, func() error {
		if held = l.held(but); held < l.vips {
			return fmt.Errorf("%d of %d VIPs are held", held, l.vips)
		}
		return nil
	})
	if err != nil {
		l.Log(err)
	}
	return held
}

// measure waits until the VIPs are held, and reports what is asked from then on and while one of the candidates is replaced.
func (l *apiLoad) measure() {
	held := l.await(nil)
	l.ReportMetric(float64(max(l.vips-held, 0)), "not-held")
	l.ReportMetric(float64(l.traffic.now().writes)/float64(l.vips), "start-writes/VIP")

	time.Sleep(settleFor)
	before, busy, lost := l.traffic.now(), processorTime(l.B), l.lost.Load()
	started := time.Now()
	time.Sleep(election.DefaultTiming().IdleRenewEvery) // in which each renews
	asked, took := l.traffic.now().since(before), time.Since(started).Seconds()
	l.ReportMetric(float64(asked.writes)/took, "rest-writes/s")
	l.ReportMetric(float64(asked.reads)/took, "rest-reads/s")
	l.ReportMetric(float64(asked.events)/took, "rest-events/s")
	l.ReportMetric(float64(asked.bytes)/took, "rest-watched-B/s")
	l.ReportMetric(float64(l.lost.Load()-lost), "rest-lost")
	l.ReportMetric(float64((processorTime(l.B)-busy).Milliseconds())/took/float64(l.speakers), "rest-cpu-ms/s/speaker")

	victim := slices.MaxFunc(l.candidates, func(a, b candidate) int { return a.holds() - b.holds() })
	l.ReportMetric(float64(victim.holds()), "failover-VIPs")
	before, started = l.traffic.now(), time.Now()
	victim.die()
	held = l.await(victim)
	took = time.Since(started).Seconds()
	asked = l.traffic.now().since(before)
	l.ReportMetric(float64(max(l.vips-held, 0)), "failover-not-held")
	l.ReportMetric(took, "failover-s")
	l.ReportMetric(float64(asked.writes), "failover-writes")
	l.ReportMetric(float64(asked.conflicts), "failover-conflicts")
	l.ReportMetric(float64(asked.reads), "failover-reads")
}

// processorTime is what this process, and so all candidates, have used of the processors.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// traffic is what candidates ask the API server, and what it tells them.
type traffic struct {
	writes, conflicts, reads atomic.Int64 // requests; conflicts are writes that came too late
	events                   atomic.Int64 // objects that lists and watches brought
	bytes                    atomic.Int64 // of watches
}

// counts are those of a traffic at one moment, or between two.
type counts struct{ writes, conflicts, reads, events, bytes int64 }

func (t *traffic) now() counts {
	return counts{t.writes.Load(), t.conflicts.Load(), t.reads.Load(), t.events.Load(), t.bytes.Load()}
}

func (c counts) since(before counts) counts {
	return counts{
		c.writes - before.writes, c.conflicts - before.conflicts, c.reads - before.reads, c.events - before.events, c.bytes - before.bytes,
	}
}

// count is the wrapper of a client's transport.
func (t *traffic) count(next http.RoundTripper) http.RoundTripper { return counted{next, t} }

type counted struct {
	http.RoundTripper
	*traffic
}

// RoundTrip counts a request. The start of a watch is a read.
func (c counted) RoundTrip(request *http.Request) (*http.Response, error) {
	write := request.Method != http.MethodGet
	if write {
		c.writes.Add(1)
	} else {
		c.reads.Add(1)
	}
	response, err := c.RoundTripper.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if write && response.StatusCode == http.StatusConflict {
		c.conflicts.Add(1)
	}
	if request.URL.Query().Has("watch") {
		response.Body = metered{response.Body, &c.bytes}
	}
	return response, nil
}

// metered counts what is read of a body.
type metered struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (m metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.bytes.Add(int64(n))
	return n, err
}
