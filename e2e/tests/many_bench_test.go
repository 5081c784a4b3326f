package tests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// How BenchmarkFailoverOfMany asks: some addresses, at a pace of which the lab's one processor takes no notice. More would keep
// the speakers from the work that is measured; what all of them do is heard.
const (
	manySample   = 20 // at most
	sampleEvery  = 500 * time.Millisecond
	manyTimeout  = 500 * time.Millisecond
	manyPatience = 5 * time.Minute
)

// manyVIPs says, in the environment, how many the node holds.
const manyVIPs = "FAIRLEAD_VIPS"

// BenchmarkFailoverOfMany lets a node fail that holds as many VIPs as FAIRLEAD_VIPS says, each a Service of its own of one pod, all of
// which the one other candidate has to take. Some are asked: the times that each did not answer, from the first request that
// failed until an answer comes, are the figures. A host of the LAN hears when each of all is announced anew: announced is the time
// from the blow until then.
func BenchmarkFailoverOfMany(b *testing.B) {
	if os.Getenv(manyVIPs) == "" {
		b.Skipf("%s is not set: run by make bench-many", manyVIPs)
	}
	s := connectForFailover(b, len(failoverNodes))
	m := newMany(b, s)
	for _, blow := range blows {
		b.Run("fault="+blow.name, func(b *testing.B) {
			var gaps, announced []time.Duration
			runs := failoverRuns(b)
			for run := range runs {
				sample, all := m.strike(b, blow)
				progress("%s %d: longest times without an answer %v, announced after %v", blow.name, run+1, sample, lastOf(all))
				gaps, announced = append(gaps, sample...), append(announced, all...)
			}
			slices.Sort(announced)
			b.Run(fmt.Sprintf("vips=%d", m.vips), func(b *testing.B) {
				for b.Loop() {
					report(b, gaps)
					b.ReportMetric(float64(runs), "runs")
					if len(announced) > 0 {
						b.ReportMetric(float64(announced[len(announced)/2].Milliseconds()), "announced-p50-ms")
						b.ReportMetric(float64(lastOf(announced).Milliseconds()), "announced-max-ms")
					}
				}
			})
		})
	}
}

// lastOf is the longest time, 0 of none: who stays announces nothing anew.
func lastOf(times []time.Duration) time.Duration {
	return slices.Max(append(times, 0))
}

// many are VIPs that two nodes may hold.
type many struct {
	*scenario.Scenario
	vips      int
	addresses []netip.Addr
}

func newMany(b *testing.B, s *scenario.Scenario) *many {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), manyPatience)
	defer cancel()
	temporaryPool(b, s, "many", func(pool *v1alpha1.IPPool) { onNodes(failoverNodes[:1])(&pool.Spec) }, "10.87.64.0/23")
	_, err := s.AddPod(ctx, cluster.Pod{
		Name: "many", Namespace: scenario.Namespace, Node: failoverNodes[2], Labels: map[string]string{"app": "many"},
		Listen: []string{"http:8080"},
	})
	must(b, err)
	m := &many{Scenario: s, vips: atLeastOne(b, manyVIPs, 0)}
	b.Cleanup(func() { m.remove(b) })
	group, creating := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range m.vips {
		group.Go(func() error {
			_, err := s.CreateService(creating, scenario.Service(fmt.Sprintf("many-%d", i), single, manyPorts))
			return err
		})
	}
	must(b, group.Wait())
	for i := range m.vips {
		addresses, err := s.Addresses(ctx, fmt.Sprintf("many-%d", i), 1)
		must(b, err)
		m.addresses = append(m.addresses, addresses[0])
	}
	must(b, m.heldBy(ctx, failoverNodes[0], ""))
	pool, err := s.Fairlead.FairleadV1alpha1().IPPools().Get(ctx, "many", metav1.GetOptions{})
	must(b, err)
	onNodes(failoverNodes[:2])(&pool.Spec)
	_, err = s.Fairlead.FairleadV1alpha1().IPPools().Update(ctx, pool, metav1.UpdateOptions{})
	must(b, err)
	must(b, scenario.Until(ctx, func() error { return m.programmed(ctx, failoverNodes[1]) }))
	return m
}

// manyPorts makes a Service cheap: it has no NodePorts, and its pod is every other one's too.
func manyPorts(service *corev1.Service) {
	service.Spec.AllocateLoadBalancerNodePorts = new(bool)
	service.Spec.Selector = map[string]string{"app": "many"}
}

// remove ends what newMany made.
func (m *many) remove(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), manyPatience)
	defer cancel()
	group, deleting := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range m.vips {
		group.Go(func() error {
			return m.Core.CoreV1().Services(scenario.Namespace).Delete(deleting, fmt.Sprintf("many-%d", i), metav1.DeleteOptions{})
		})
	}
	must(b, group.Wait())
	must(b, scenario.Until(ctx, func() error {
		vips, err := m.Fairlead.FairleadV1alpha1().VIPs().List(ctx, metav1.ListOptions{})
		if err == nil && len(vips.Items) > 0 {
			err = fmt.Errorf("%d VIPs still exist", len(vips.Items))
		}
		return err
	}))
	must(b, m.DeletePod(ctx, "many"))
}

// heldBy waits until a node holds all, which another one held.
func (m *many) heldBy(ctx context.Context, node, before string) error {
	for _, addr := range m.addresses {
		if holder, err := m.Holder(ctx, addr, before); err != nil || holder != node {
			time.Sleep(time.Second) // what is in the wrong place does not come back soon
			return errors.Join(fmt.Errorf("VIP %s is held by %q, want %s", addr, holder, node), err)
		}
	}
	return nil
}

// programmed returns nil if a node's IPVS has all.
func (m *many) programmed(ctx context.Context, node string) error {
	out, err := m.Output(ctx, node, "sh", "-c", scenario.Everywhere("ipvsadm -Ln"))
	if servers := strings.Count(out, "TCP  10.87."); err == nil && servers != m.vips {
		time.Sleep(time.Second) // to list a thousand of them is work for the lab's one processor
		err = fmt.Errorf("IPVS of node %s has %d of %d VIPs", node, servers, m.vips)
	}
	return err
}

// strike lets the node fail that holds all, and returns how long each of a sample did not answer, and when each of all was
// announced by the other, if they go there. The node is a standby again thereafter, unless it kept them.
func (m *many) strike(b *testing.B, blow blow) (sample, announced []time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), manyPatience)
	defer cancel()
	node, err := m.Holder(ctx, m.addresses[0], "")
	must(b, err)
	other := failoverNodes[0]
	if node == other {
		other = failoverNodes[1]
	}
	must(b, scenario.Until(ctx, func() error { return m.heldBy(ctx, node, "") }))
	urls := m.urls((m.vips + manySample - 1) / manySample)
	probe, err := m.Probe(ctx, "client", cluster.ProbeOptions{Every: sampleEvery, Timeout: manyTimeout}, urls...)
	must(b, err)
	must(b, scenario.Until(ctx, func() error { return quiet(probe, len(urls)) }))
	stop, err := m.Hear(ctx, "client")
	must(b, err)
	asked, struck := len(probe.Events()), time.Duration(time.Now().UnixNano())
	must(b, blow.strike(ctx, m.Scenario, node))
	if !blow.stays {
		must(b, m.heldBy(ctx, other, node))
	}
	must(b, scenario.Until(ctx, func() error { return eachUp(probe, len(urls)) }))
	must(b, scenario.Until(ctx, func() error { return quiet(probe, len(urls)) }))
	all, err := stop()
	must(b, err)
	for _, url := range urls {
		others := func(event cluster.ProbeEvent) bool { return event.URL != url }
		sample = append(sample, outageOf(slices.DeleteFunc(probe.Events()[asked:], others)))
	}
	_, err = probe.Stop()
	must(b, err)
	if !blow.stays {
		announced = m.announcedBy(b, other, all, struck)
	}
	must(b, blow.mend(ctx, m.Scenario, node))
	must(b, scenario.Until(ctx, func() error { return atWork(ctx, m.Scenario, node) }))
	must(b, scenario.Until(ctx, func() error { return m.programmed(ctx, node) }))
	return sample, announced
}

// announcedBy is when a node first announced each of all after a moment.
func (m *many) announcedBy(b *testing.B, node string, heard []scenario.Announcement, from time.Duration) (after []time.Duration) {
	b.Helper()
	mac, err := m.Output(b.Context(), node, "cat", "/sys/class/net/eth0/address")
	must(b, err)
	first := map[netip.Addr]time.Duration{}
	for _, a := range heard {
		if _, known := first[a.Addr]; !known && a.MAC == strings.TrimSpace(mac) && a.At > from {
			first[a.Addr] = a.At - from
		}
	}
	for _, addr := range m.addresses {
		at, known := first[addr]
		if !known {
			b.Fatalf("%s never announced %s", node, addr)
		}
		after = append(after, at)
	}
	return after
}

// urls are those of one address of every so many.
func (m *many) urls(of int) (out []string) {
	for i := 0; i < len(m.addresses); i += of {
		out = append(out, fmt.Sprintf("http://%s:80/", m.addresses[i]))
	}
	return out
}

// quiet returns nil if all URLs answer and nothing changed for some requests.
func quiet(probe *cluster.Probe, urls int) error {
	before := len(probe.Events())
	if err := eachUp(probe, urls); err != nil {
		return err
	}
	time.Sleep(6 * sampleEvery)
	if now := len(probe.Events()); now != before {
		return fmt.Errorf("%d addresses began or ceased to answer within %v", now-before, 6*sampleEvery)
	}
	return nil
}

// eachUp returns nil if so many URLs of a probe answer.
func eachUp(probe *cluster.Probe, urls int) error {
	answering := map[string]bool{}
	for _, event := range probe.Events() {
		if answering[event.URL] = event.Up; !event.Up {
			delete(answering, event.URL)
		}
	}
	if len(answering) != urls {
		return fmt.Errorf("%d of %d URLs answer", len(answering), urls)
	}
	return nil
}

// outageOf is from the sending of the first request that failed until the last URL answers again; 0 if none failed.
func outageOf(events []cluster.ProbeEvent) time.Duration {
	var first, last int64
	for _, event := range events {
		if !event.Up && (first == 0 || event.Sent < first) {
			first = event.Sent
		}
		if event.Up {
			last = max(last, event.T)
		}
	}
	if first == 0 {
		return 0
	}
	return time.Duration(last - first)
}
