package tests

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

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
// which the one other candidate has to take; in turn with one of two keepaliveds that hold as many. Some are asked: the times that
// each did not answer, from the first request that failed until an answer comes, are the figures. A host of the LAN hears when each of
// all is announced anew: announced is the time from the blow until then.
func BenchmarkFailoverOfMany(b *testing.B) {
	if os.Getenv(manyVIPs) == "" {
		b.Skipf("%s is not set: run by make bench-many", manyVIPs)
	}
	s := connectForFailover(b)
	vips := newMany(b, s)
	contenders := []contender{vips}
	if _, err := exec.LookPath("keepalived"); err == nil {
		serve(b, s, failoverServer, manyListens(len(vips.addrs))...)
		contenders = append(contenders, newKeepalivedContender(b, s, len(vips.addrs), true))
	}
	for _, blow := range blows {
		b.Run("fault="+blow.name, func(b *testing.B) {
			of := contest(b, contenders, blow, func(of *tallyOfMany, c contender, run int) { of.add(b, s, c, blow, run) })
			for _, c := range contenders {
				if c.meets(blow) {
					b.Run(fmt.Sprintf("of=%s/addresses=%d", c, len(c.addresses())), of[c].report)
				}
			}
		})
	}
}

// tallyOfMany is what was seen of a contender: how long sampled addresses did not answer, and when each of all was announced anew.
type tallyOfMany struct {
	runs            int
	gaps, announced []time.Duration
}

func (t *tallyOfMany) report(b *testing.B) {
	slices.Sort(t.announced)
	failed := slices.DeleteFunc(slices.Clone(t.gaps), func(gap time.Duration) bool { return gap == 0 })
	for b.Loop() {
		report(b, t.gaps)
		b.ReportMetric(float64(t.runs), "runs")
		b.ReportMetric(float64(len(failed)), "failed")
		if len(t.announced) > 0 {
			b.ReportMetric(float64(t.announced[len(t.announced)/2].Milliseconds()), "announced-p50-ms")
			b.ReportMetric(float64(lastOf(t.announced).Milliseconds()), "announced-max-ms")
		}
	}
}

// add strikes the holder of all once.
func (t *tallyOfMany) add(b *testing.B, s *scenario.Scenario, c contender, blow blow, run int) {
	b.Helper()
	sample, all := strikeMany(b, s, c, blow)
	progress("%s %d, %s: longest times without an answer %v, announced after %v", blow.name, run+1, c, sample, lastOf(all))
	t.runs++
	t.gaps, t.announced = append(t.gaps, sample...), append(t.announced, all...)
}

// lastOf is the longest time, 0 of none: who stays announces nothing anew.
func lastOf(times []time.Duration) time.Duration {
	return slices.Max(append(times, 0))
}

// many are VIPs that two nodes may hold.
type many struct {
	*scenario.Scenario
	addrs []netip.Addr
}

func newMany(b *testing.B, s *scenario.Scenario) *many {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), manyPatience)
	defer cancel()
	temporaryPool(b, s, "many", func(pool *v1alpha1.IPPool) { onNodes(failoverNodes[:1])(&pool.Spec) }, "10.87.64.0/23")
	vips := atLeastOne(b, manyVIPs, 0)
	_, err := s.AddPod(ctx, cluster.Pod{
		Name: "many", Namespace: scenario.Namespace, Node: failoverNodes[2], Labels: map[string]string{"app": "many"},
		Listen: manyListens(vips),
	})
	must(b, err)
	m := &many{Scenario: s}
	b.Cleanup(func() { m.remove(b, vips) })
	group, creating := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range vips {
		group.Go(func() error {
			_, err := s.CreateService(creating, scenario.Service(fmt.Sprintf("many-%d", i), single, manyPorts(portOf(i, vips))))
			return err
		})
	}
	must(b, group.Wait())
	for i := range vips {
		addresses, err := s.Addresses(ctx, fmt.Sprintf("many-%d", i), 1)
		must(b, err)
		m.addrs = append(m.addrs, addresses[0])
	}
	must(b, scenario.Until(ctx, func() error { return m.heldBy(ctx, failoverNodes[0]) }))
	pool, err := s.Fairlead.FairleadV1alpha1().IPPools().Get(ctx, "many", metav1.GetOptions{})
	must(b, err)
	onNodes(failoverNodes[:2])(&pool.Spec)
	_, err = s.Fairlead.FairleadV1alpha1().IPPools().Update(ctx, pool, metav1.UpdateOptions{})
	must(b, err)
	must(b, scenario.Until(ctx, func() error { return m.programmed(ctx, failoverNodes[1]) }))
	return m
}

// manyPorts makes a Service cheap: it has no NodePorts, and its pod is every other one's too.
func manyPorts(port int) func(*corev1.Service) {
	return func(service *corev1.Service) {
		service.Spec.AllocateLoadBalancerNodePorts = new(bool)
		service.Spec.Selector = map[string]string{"app": "many"}
		service.Spec.Ports[0].TargetPort = intstr.FromInt(port)
	}
}

// step is from one address that is asked to the next, of so many.
func step(all int) int { return (all + manySample - 1) / manySample }

// portOf is the server's port for an address. Those that are asked have one each: IPVS finds by client and server alone to whom an
// answer belongs, and the client may ask two addresses from one of its ports.
func portOf(i, all int) int { return failoverPort + i/step(all) }

func manyListens(all int) (ports []string) {
	for i := 0; i < all; i += step(all) {
		ports = append(ports, fmt.Sprintf("http:%d", portOf(i, all)))
	}
	return ports
}

// remove ends what newMany made.
func (m *many) remove(b *testing.B, vips int) {
	ctx, cancel := context.WithTimeout(context.Background(), manyPatience)
	defer cancel()
	group, deleting := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for i := range vips {
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

// heldBy returns nil if a node holds all. One list tells, because hundreds of questions would be work for the lab's one processor.
func (m *many) heldBy(ctx context.Context, node string) error {
	vips, err := m.Fairlead.FairleadV1alpha1().VIPs().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	held := 0
	for _, vip := range vips.Items {
		if addr, err := netip.ParseAddr(vip.Spec.Address); err == nil && slices.Contains(m.addrs, addr) && vip.Status.Node == node {
			held++
		}
	}
	if held != len(m.addrs) {
		time.Sleep(time.Second) // what is in the wrong place does not come back soon
		return fmt.Errorf("node %s holds %d of %d VIPs", node, held, len(m.addrs))
	}
	return nil
}

// programmed returns nil if a node's IPVS has all.
func (m *many) programmed(ctx context.Context, node string) error {
	out, err := m.Output(ctx, node, "sh", "-c", scenario.Everywhere("ipvsadm -Ln"))
	if servers := strings.Count(out, "TCP  10.87."); err == nil && servers != len(m.addrs) {
		time.Sleep(time.Second) // to list a thousand of them is work for the lab's one processor
		err = fmt.Errorf("IPVS of node %s has %d of %d VIPs", node, servers, len(m.addrs))
	}
	return err
}

func (*many) String() string            { return "vip" }
func (m *many) addresses() []netip.Addr { return m.addrs }
func (*many) meets(blow) bool           { return true }

func (m *many) holder(ctx context.Context, not string) (string, error) {
	node, err := m.Holder(ctx, m.addrs[0], not)
	if err == nil {
		err = scenario.Until(ctx, func() error { return m.heldBy(ctx, node) })
	}
	return node, err
}

func (m *many) strike(ctx context.Context, blow blow, node string) error {
	return blow.strike(ctx, m.Scenario, node)
}

func (m *many) mend(ctx context.Context, blow blow, node string) error {
	if err := blow.mend(ctx, m.Scenario, node); err != nil {
		return err
	}
	if err := scenario.Until(ctx, func() error { return atWork(ctx, m.Scenario, node) }); err != nil {
		return err
	}
	return scenario.Until(ctx, func() error { return m.programmed(ctx, node) })
}

// strikeMany lets the node fail that holds all, and returns how long each of a sample did not answer, and when each of all was
// announced by the other, if they go there. The node is a standby again thereafter, unless it kept them.
func strikeMany(b *testing.B, s *scenario.Scenario, c contender, blow blow) (sample, announced []time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), manyPatience)
	defer cancel()
	node, err := c.holder(ctx, "")
	must(b, err)
	urls := sampled(c.addresses())
	probe, err := s.Probe(ctx, "client", cluster.ProbeOptions{Every: sampleEvery, Timeout: manyTimeout}, urls...)
	must(b, err)
	must(b, scenario.Until(ctx, func() error { return quiet(probe, len(urls)) }))
	stop, err := s.Hear(ctx, "client")
	must(b, err)
	asked, struck := len(probe.Events()), time.Duration(time.Now().UnixNano())
	must(b, c.strike(ctx, blow, node))
	other := node
	if !blow.stays {
		other, err = c.holder(ctx, node)
		must(b, err)
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
	if other != node {
		announced = announcedBy(b, s, other, c.addresses(), all, struck)
	}
	must(b, c.mend(ctx, blow, node))
	return sample, announced
}

// announcedBy is when a node first announced each of some addresses after a moment.
func announcedBy(b *testing.B, s *scenario.Scenario, node string, addrs []netip.Addr, heard []scenario.Announcement, from time.Duration) (after []time.Duration) {
	b.Helper()
	mac, err := s.Output(b.Context(), node, "cat", "/sys/class/net/eth0/address")
	must(b, err)
	first := map[netip.Addr]time.Duration{}
	for _, a := range heard {
		if _, known := first[a.Addr]; !known && a.MAC == strings.TrimSpace(mac) && a.At > from {
			first[a.Addr] = a.At - from
		}
	}
	for _, addr := range addrs {
		at, known := first[addr]
		if !known {
			b.Fatalf("%s never announced %s", node, addr)
		}
		after = append(after, at)
	}
	return after
}

// sampled are the URLs of manySample addresses or fewer.
func sampled(addrs []netip.Addr) (urls []string) {
	for i := 0; i < len(addrs); i += step(len(addrs)) {
		urls = append(urls, scenario.URL(addrs[i], 80))
	}
	return urls
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
