package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/health"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/nft"
	"github.com/fairlead/fairlead/pkg/plan"
)

type fakeRecorder struct{ events []string }

func (r *fakeRecorder) Event(object runtime.Object, kind, reason, message string) {
	r.events = append(r.events, fmt.Sprintf("%s %s %s: %s", object.(*v1alpha1.VIP).Name, kind, reason, message))
}

// node is a speaker's way from a snapshot to its kernel, without the API server.
type node struct {
	*testing.T
	kernel   *fakes
	datapath *Datapath
	checker  *health.Fake
	events   *fakeRecorder
	metrics  *prometheus.Registry
	checks   *checks
	drains   *drains
	notified int
	vip      *v1alpha1.VIP
	machines []plan.Machine
}

// ingress is node n3, whose VIP has n1 and n2 as backends, at port 8080, checked at 1936.
func ingress(t *testing.T) *node {
	n := &node{T: t, kernel: newFakes(nft.NewFake()), checker: health.NewFake(), events: &fakeRecorder{}}
	n.start()
	n.vip = &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: vip4.String()}, Spec: v1alpha1.VIPSpec{
		Address: vip4.String(),
		Frontends: []v1alpha1.Frontend{{
			Port: 80, Protocol: corev1.ProtocolTCP, Backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, Port: 8080},
			HealthCheck: &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTP, Port: 1936},
		}},
	}}
	for i := range 2 {
		n.machines = append(n.machines, plan.Machine{
			Name: fmt.Sprintf("n%d", i+1), Ready: true, Addresses: []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.87.0.%d", i+1))},
		})
	}
	return n
}

// start makes the speaker a new one, which knows nothing but what the kernel has.
func (n *node) start() {
	n.metrics = prometheus.NewRegistry()
	config := Config{Recorder: n.events, Metrics: NewMetrics(n.metrics), Kernel: Kernel{Servers: n.kernel.servers}}
	n.datapath, n.checks = n.kernel.datapath(), newChecks(config, n.checker)
	n.drains = newDrains(config, func() { n.notified++ })
}

// reconcile is what the speaker's does, and returns the weights that IPVS has then.
func (n *node) reconcile(holds bool) []string {
	n.Helper()
	interfaces := []model.Interface{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.87.0.0/16")}}}
	vips := []*v1alpha1.VIP{n.vip}
	if err := n.drains.begin(); err != nil {
		n.Fatal(err)
	}
	result := plan.Node(plan.Snapshot{
		VIPs: vips, Machines: n.machines, Node: "n3", Interfaces: interfaces, Held: map[string]bool{n.vip.Name: holds},
		Down: n.checker.Down(), Had: n.drains.planned, Drained: n.drains.drained,
	})
	n.checks.follow(result)
	outcome := apply(n.T, n.datapath, result.State)
	n.drains.follow(vips, outcome.Bound, result)
	n.checks.tell(vips, outcome.Bound, result)
	servers, err := n.kernel.servers.Servers()
	if err != nil || len(servers) != 1 {
		n.Fatalf("servers %v, error %v", servers, err)
	}
	var out []string
	for _, b := range servers[0].Backends {
		out = append(out, fmt.Sprintf("%s %d", b.Addr, b.Weight))
	}
	return out
}

// target is that of a node's health port.
func (n *node) target(addr string) model.Target {
	n.Helper()
	for target := range n.checker.Targets() {
		if target.Addr == netip.MustParseAddrPort(addr) {
			return target
		}
	}
	n.Fatalf("%s is not checked; checked are %v", addr, n.checker.Targets())
	return model.Target{}
}

func (n *node) down() float64 { return n.gauge("fairlead_speaker_backends_down") }

func (n *node) gauge(name string) float64 {
	n.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		n.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	n.Fatalf("no metric %s", name)
	return 0
}

func TestABackendThatFailsItsCheckGetsNoNewConnections(t *testing.T) {
	n := ingress(t)
	both := []string{"10.87.0.1:8080 1", "10.87.0.2:8080 1"}
	if got := n.reconcile(true); !slices.Equal(got, both) {
		t.Fatalf("before any check the backends are %v", got)
	}
	n.kernel.servers.Writes()
	n.checker.Fail(n.target("10.87.0.2:1936"), "HTTP GET /: connection refused")
	if got := n.reconcile(true); !slices.Equal(got, []string{"10.87.0.1:8080 1", "10.87.0.2:8080 0"}) {
		t.Errorf("with one down the backends are %v", got)
	}
	if writes := n.kernel.servers.Writes(); len(writes) != 1 || writes[0].Op != ipvs.EditBackend {
		t.Errorf("written was %v: established connections need the backend where it is", writes)
	}
	if down := n.down(); down != 1 {
		t.Errorf("the metric says that %v are down", down)
	}
	n.reconcile(true)
	n.checker.Fail(n.target("10.87.0.2:1936"), "")
	if got := n.reconcile(true); !slices.Equal(got, both) {
		t.Errorf("back up the backends are %v", got)
	}
	want := []string{
		"10.87.2.10 Warning BackendDown: 10.87.0.2:8080 (checked at port 1936): HTTP GET /: connection refused",
		"10.87.2.10 Normal BackendUp: 10.87.0.2:8080 (checked at port 1936) answers its health check again",
	}
	if !slices.Equal(n.events.events, want) {
		t.Errorf("events %q, want %q", n.events.events, want)
	}
}

func TestOnlyTheHolderTellsOfChecksAndEveryStandbyMakesThem(t *testing.T) {
	n := ingress(t)
	n.reconcile(false)
	n.checker.Fail(n.target("10.87.0.2:1936"), "HTTP GET /: connection refused")
	if got := n.reconcile(false); !slices.Equal(got, []string{"10.87.0.1:8080 1", "10.87.0.2:8080 0"}) {
		t.Errorf("a standby has the backends %v", got)
	}
	if len(n.events.events) != 0 {
		t.Errorf("a standby tells %q", n.events.events)
	}
	n.reconcile(true)
	n.reconcile(true)
	if len(n.events.events) != 1 || !strings.Contains(n.events.events[0], " BackendDown: ") {
		t.Errorf("a new holder tells %q, want what it finds, once: nobody may have told it before", n.events.events)
	}
	n.checker.Fail(n.target("10.87.0.2:1936"), "")
	if n.reconcile(true); len(n.events.events) != 2 {
		t.Errorf("events %q, want that the backend is up again", n.events.events)
	}
}

func TestWithEveryBackendDownAllGetConnections(t *testing.T) {
	n := ingress(t)
	n.reconcile(true)
	for _, addr := range []string{"10.87.0.1:1936", "10.87.0.2:1936"} {
		n.checker.Fail(n.target(addr), "HTTP GET /: status 503 Service Unavailable")
	}
	if got := n.reconcile(true); !slices.Equal(got, []string{"10.87.0.1:8080 1", "10.87.0.2:8080 1"}) {
		t.Errorf("with all down the backends are %v", got)
	}
	if down := n.down(); down != 2 || len(n.events.events) != 3 {
		t.Errorf("the metric says that %v are down, events %q", down, n.events.events)
	}
}

func TestTheHolderTellsWhereConnectionsGoWithoutAQuorum(t *testing.T) {
	n := ingress(t)
	n.vip.Spec.Frontends[0].HealthCheck.LastResort = []string{"192.0.2.80:8081"}
	n.reconcile(true)
	fail := func(reason string) {
		for _, addr := range []string{"10.87.0.1:1936", "10.87.0.2:1936"} {
			n.checker.Fail(n.target(addr), reason)
		}
	}
	fail("HTTP GET /: connection refused")
	if got := n.reconcile(true); !slices.Equal(got, []string{"10.87.0.1:8080 0", "10.87.0.2:8080 0", "192.0.2.80:8081 1"}) {
		t.Errorf("with all down the backends are %v", got)
	}
	n.reconcile(true)
	if without := n.gauge("fairlead_speaker_frontends_without_quorum"); without != 1 {
		t.Errorf("the metric says that %v frontends lack a quorum", without)
	}
	n.vip.Spec.Frontends[0].HealthCheck.LastResort = nil
	n.vip.Spec.Frontends[0].HealthCheck.WhenAllFail = v1alpha1.FailClosed
	n.reconcile(true)
	fail("")
	n.reconcile(true)
	n.reconcile(true)
	got := slices.DeleteFunc(n.events.events, func(e string) bool { return strings.Contains(e, " Backend") })
	want := []string{
		"10.87.2.10 Warning QuorumLost: port 80/TCP: 0 of 2 backends are up, and 1 must be: connections go to the last resort",
		"10.87.2.10 Warning QuorumLost: port 80/TCP: 0 of 2 backends are up, and 1 must be: connections go to nobody: clients are refused",
		"10.87.2.10 Normal QuorumRestored: port 80/TCP: enough backends are up again",
	}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestWhatIsNotPlannedIsNotChecked(t *testing.T) {
	n := ingress(t)
	n.reconcile(true)
	n.machines = n.machines[:1]
	if n.reconcile(true); len(n.checker.Targets()) != 1 {
		t.Errorf("checked is %v after a node went", n.checker.Targets())
	}
	n.vip.Spec.Frontends[0].HealthCheck = nil
	if n.reconcile(true); len(n.checker.Targets()) != 0 {
		t.Errorf("checked is %v after the check went", n.checker.Targets())
	}
}

func TestASchedulerThatTheKernelLacksIsNamedWithTheRemedy(t *testing.T) {
	n := ingress(t)
	n.kernel.servers.Lack("lblc")
	want := holder()
	want.Servers[0].Scheduler = model.Scheduler{Name: "lblc"}
	outcome, err := n.datapath.Apply(context.Background(), want, true)
	for _, text := range []string{fmt.Sprint(err), fmt.Sprint(outcome.Failed[vip4])} {
		for _, part := range []string{vip4.String(), `scheduler "lblc"`, "modprobe ip_vs_lblc"} {
			if !strings.Contains(text, part) {
				t.Errorf("%q does not say %q", text, part)
			}
		}
	}
	if len(outcome.Bound) != 1 || outcome.Bound[0].Addr != vip6 {
		t.Errorf("bound are %v, want the other VIP", outcome.Bound)
	}
	// A VIP that works goes on with the scheduler that it has.
	apply(t, n.datapath, holder())
	if outcome, err = n.datapath.Apply(context.Background(), want, true); err == nil || len(outcome.Bound) != 2 {
		t.Errorf("bound are %v, error %v", outcome.Bound, err)
	}
}
