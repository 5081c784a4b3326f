package tests

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
)

// The hosts of the benchmarks of failover (make bench-failover): Fairlead's VIPs are on some nodes, keepalived's on others, and
// the server that both balance to is on none of them. The lab has one processor: nothing here looks by running commands while
// something is measured.
var (
	failoverNodes     = []string{"n1", "n2", "n3"}
	keepalivedNodes   = []string{"n4", "n5"}
	failoverServer    = "router"
	nodesOfFailover   = 5
	keepalivedAddress = netip.MustParseAddr("10.87.240.9") // the first
)

const failoverPort = 8080 // of the server

// atLeastOne is a number that the environment gives, or usual.
func atLeastOne(t testing.TB, variable string, usual int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q, want a number from 1 on", variable, text)
	}
	return n
}

// failoverRuns is how often each fault strikes.
func failoverRuns(b *testing.B) int { return atLeastOne(b, "FAIRLEAD_RUNS", 5) }

// blow is what befalls a holder, and how it ends.
type blow struct {
	name         string
	strike, mend func(ctx context.Context, s *scenario.Scenario, node string) error
	// stays says that nothing is to move, planned that the holder serves on until the next one has been heard.
	stays, planned bool
	// signal is what keepalived gets where it is the balancer that is struck, not its node.
	signal syscall.Signal
	// outlived says that keepalived goes on.
	outlived bool
}

// blows are the faults and planned work. A node that is drained is cordoned first; whoever drains one that runs keepalived
// stops it.
var blows = []blow{
	{name: "killed-speaker", strike: fault(cluster.KillSpeaker), mend: fault(cluster.StartSpeaker), signal: syscall.SIGKILL},
	{name: "powered-off-node", strike: fault(cluster.PowerOff), mend: fault(cluster.PowerOn)},
	{name: "lost-carrier", strike: fault(cluster.CutCarrier), mend: fault(cluster.Heal), outlived: true},
	{name: "drained-node", strike: cordon(true), mend: cordon(false), planned: true, signal: syscall.SIGTERM},
	{name: "replaced-speaker", strike: replace, mend: fault(cluster.StartSpeaker), stays: true},
}

func fault(kind cluster.FaultKind) func(context.Context, *scenario.Scenario, string) error {
	return func(ctx context.Context, s *scenario.Scenario, node string) error { return s.Fault(ctx, kind, node) }
}

func cordon(cordoned bool) func(context.Context, *scenario.Scenario, string) error {
	return func(ctx context.Context, s *scenario.Scenario, node string) error {
		return s.Cordon(ctx, node, cordoned)
	}
}

// replace is an upgrade: the next process comes later than others would wait for one that does not say that it restarts.
func replace(ctx context.Context, s *scenario.Scenario, node string) error {
	if err := s.Fault(ctx, cluster.StopSpeaker, node); err != nil {
		return err
	}
	time.Sleep(6 * time.Second)
	return s.Fault(ctx, cluster.StartSpeaker, node)
}

// contender keeps addresses answering, all on one node.
type contender interface {
	String() string
	addresses() []netip.Addr
	// holder waits until a node other than not has the addresses.
	holder(ctx context.Context, not string) (string, error)
	// meets says whether there is something to compare.
	meets(blow) bool
	strike(ctx context.Context, blow blow, node string) error
	// mend returns when the node can take the addresses again.
	mend(ctx context.Context, blow blow, node string) error
}

// BenchmarkFailover measures the longest time without an answer at a client that asks every 20 ms, run after run of each
// fault, in turn Fairlead's and keepalived's: one address each, of the same HTTP server, both by IPVS with masquerading.
// keepalived has adverts every second and equal priorities, so that an address stays where it is, as Fairlead's does.
func BenchmarkFailover(b *testing.B) {
	s := connectForFailover(b)
	poolWith(b, s, onNodes(failoverNodes))
	serve(b, s, failoverServer, fmt.Sprintf("http:%d", failoverPort))
	vip := newVIPContender(b, s)
	contenders := []contender{vip}
	if _, err := exec.LookPath("keepalived"); err == nil {
		contenders = append(contenders, newKeepalivedContender(b, s, 1, false))
	}
	for _, c := range contenders {
		answers(b, s, "client", c.addresses()[0], 80)
	}
	for _, blow := range blows {
		b.Run("fault="+blow.name, func(b *testing.B) {
			of := contest(b, contenders, blow, func(of *tally, c contender, run int) { of.add(b, s, c, blow, run) })
			for _, c := range contenders {
				if c.meets(blow) {
					b.Run("of="+c.String(), func(b *testing.B) {
						for b.Loop() {
							of[c].report(b)
						}
					})
				}
			}
		})
	}
}

// connectForFailover skips where the lab is another.
func connectForFailover(b *testing.B) *scenario.Scenario {
	b.Helper()
	s, ctx := connect(b)
	have, err := s.Nodes(ctx)
	must(b, err)
	if len(have) != nodesOfFailover {
		b.Skipf("needs %d nodes: run by make bench-failover or bench-many", nodesOfFailover)
	}
	return s
}

func onNodes(nodes []string) func(*v1alpha1.IPPoolSpec) {
	return func(spec *v1alpha1.IPPoolSpec) { spec.NodeSelector = hosts(nodes...) }
}

// tally is what clients saw of a contender.
type tally struct {
	gaps                []time.Duration
	sent, failed, moved int
}

func (t *tally) report(b *testing.B) {
	b.Helper()
	report(b, t.gaps)
	b.ReportMetric(float64(len(t.gaps)), "runs")
	b.ReportMetric(float64(t.failed), "failed")
	b.ReportMetric(float64(t.sent), "requests")
	b.ReportMetric(float64(t.moved), "moves")
}

// contest lets contenders meet a fault in turn, as often as asked for: add strikes, and adds what it saw to a tally.
func contest[T any](b *testing.B, contenders []contender, blow blow, add func(of *T, c contender, run int)) map[contender]*T {
	b.Helper()
	of := map[contender]*T{}
	for run := range failoverRuns(b) {
		for _, c := range contenders {
			if !c.meets(blow) {
				continue
			}
			if of[c] == nil {
				of[c] = new(T)
			}
			add(of[c], c, run)
		}
	}
	return of
}

// add strikes the holder once.
func (t *tally) add(b *testing.B, s *scenario.Scenario, c contender, blow blow, run int) {
	b.Helper()
	var from, to string
	seen := whileAsked(b, s, c.addresses()[0], func(ctx context.Context) (err error) {
		if from, err = c.holder(ctx, ""); err != nil {
			return err
		}
		if err = c.strike(ctx, blow, from); err != nil {
			return err
		}
		not := from
		if blow.stays {
			not = ""
		}
		to, err = c.holder(ctx, not)
		return err
	})
	must(b, c.mend(within(b.Context(), b), blow, from))
	progress("%s %d, %s from %s to %s: longest time without an answer %.0f ms, %d of %d requests failed %v (prober's longest pause %.0f ms)",
		blow.name, run+1, c, from, to, seen.LongestGapMS, seen.Failed, seen.Sent, seen.Why, seen.LongestPauseMS)
	t.gaps = append(t.gaps, time.Duration(seen.LongestGapMS*float64(time.Millisecond)))
	t.sent, t.failed = t.sent+seen.Sent, t.failed+seen.Failed
	if from != to {
		t.moved++
	}
}

// progress tells at once of one run: of a benchmark's log no more than ten lines are printed.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// vipContender is Fairlead.
type vipContender struct {
	*scenario.Scenario
	addr netip.Addr
}

// newVIPContender makes a Service whose endpoints are written by hand.
func newVIPContender(b *testing.B, s *scenario.Scenario) vipContender {
	b.Helper()
	ctx := within(b.Context(), b)
	service, err := s.CreateService(ctx, scenario.Service("failover", single, func(service *corev1.Service) {
		service.Spec.Selector = nil
	}))
	must(b, err)
	b.Cleanup(func() {
		must(b, s.Core.CoreV1().Services(service.Namespace).Delete(context.Background(), service.Name, metav1.DeleteOptions{}))
	})
	port, name := int32(failoverPort), service.Spec.Ports[0].Name
	_, err = s.Core.DiscoveryV1().EndpointSlices(service.Namespace).Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: service.Name, Labels: map[string]string{
			discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: "bench",
		}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{nodeAddress(b, s, failoverServer, true).String()}}},
	}, metav1.CreateOptions{})
	must(b, err)
	addresses, err := s.Addresses(ctx, service.Name, 1)
	must(b, err)
	return vipContender{Scenario: s, addr: addresses[0]}
}

func (vipContender) String() string            { return "vip" }
func (v vipContender) addresses() []netip.Addr { return []netip.Addr{v.addr} }
func (vipContender) meets(blow) bool           { return true }

func (v vipContender) holder(ctx context.Context, not string) (string, error) {
	return v.Holder(ctx, v.addr, not)
}

func (v vipContender) strike(ctx context.Context, blow blow, node string) error {
	if err := blow.strike(ctx, v.Scenario, node); err != nil || !blow.planned {
		return err
	}
	_, err := v.Output(ctx, node, "sh", "-c", // bound is an address, or in isolated placement a route
		fmt.Sprintf("while { ip -o addr show to %[1]s; ip route show %[1]s; } | grep -q .; do sleep 0.2; done", v.addr))
	return err
}

func (v vipContender) mend(ctx context.Context, blow blow, node string) error {
	if err := blow.mend(ctx, v.Scenario, node); err != nil {
		return err
	}
	return scenario.Until(ctx, func() error { return atWork(ctx, v.Scenario, node) })
}

// atWork returns nil if a node's heartbeat stands and does not say that its speaker restarts: one that is struck before it says
// so does not know that it replaces another.
func atWork(ctx context.Context, s *scenario.Scenario, node string) error {
	if err := living(ctx, s, node); err != nil {
		return err
	}
	lease, err := s.Core.CoordinationV1().Leases(scenario.SystemNamespace).Get(ctx, election.HeartbeatName(node), metav1.GetOptions{})
	if err == nil && lease.Annotations[v1alpha1.GroupName+"/restarts-within"] != "" {
		err = fmt.Errorf("the speaker of %s restarts", node)
	}
	return err
}
