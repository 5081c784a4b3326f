package speaker

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/plan"
)

var (
	web80 = model.Frontend{Addr: vip4, Port: 80, Proto: model.TCP}
	node2 = netip.MustParseAddrPort("10.87.0.2:8080")

	bothServe  = []string{"10.87.0.1:8080 1", "10.87.0.2:8080 1"}
	node2Ends  = []string{"10.87.0.1:8080 1", "10.87.0.2:8080 0"}
	node2Ended = []string{"10.87.0.1:8080 1"}
)

// drained is node n3 after one of its two backends was taken out, with connections.
func drained(t *testing.T, holds bool, connections int) *node {
	n := ingress(t)
	n.vip.Spec.Frontends[0].HealthCheck = nil
	n.want(holds, bothServe)
	n.kernel.servers.Connect(web80, node2, connections)
	n.machines = n.machines[:1]
	n.want(holds, node2Ends)
	return n
}

// want reconciles and compares the weights.
func (n *node) want(holds bool, want []string) {
	n.Helper()
	if got := n.reconcile(holds); !slices.Equal(got, want) {
		n.Errorf("the backends are %v, want %v", got, want)
	}
}

func (n *node) count() {
	n.Helper()
	if err := n.drains.count(); err != nil {
		n.Fatal(err)
	}
}

// pass makes time go by for what drains.
func (n *node) pass(time time.Duration) {
	for _, drain := range n.drains.draining {
		drain.since = drain.since.Add(-time)
	}
}

func TestABackendIsRemovedWhenItsLastConnectionHasEnded(t *testing.T) {
	n := drained(t, true, 2)
	if draining := n.gauge("fairlead_speaker_backends_draining"); draining != 1 {
		t.Errorf("the metric says that %v backends drain", draining)
	}
	n.kernel.servers.Writes()
	n.count()
	n.want(true, node2Ends)
	if writes := n.kernel.servers.Writes(); n.notified != 0 || len(writes) != 0 {
		t.Errorf("while connections last: %d notifications, written %v", n.notified, writes)
	}
	n.kernel.servers.Connect(web80, node2, 0)
	n.want(true, node2Ends) // nobody has counted
	n.count()
	n.count()
	if n.notified != 1 {
		t.Errorf("%d notifications of the last connection's end, want 1", n.notified)
	}
	n.want(true, node2Ended)
	n.want(true, node2Ended)
	if writes := n.kernel.servers.Writes(); len(writes) != 1 || writes[0].Op != ipvs.DeleteBackend || len(n.drains.draining) != 0 {
		t.Errorf("written %v, and still draining %v", writes, n.drains.draining)
	}
	if len(n.events.events) != 0 {
		t.Errorf("a drain that went well is told of: %q", n.events.events)
	}
}

func TestABackendIsRemovedAtTheDeadlineWithWhatIsLeft(t *testing.T) {
	n := drained(t, true, 2)
	n.count()
	n.pass(299 * time.Second)
	n.want(true, node2Ends)
	n.pass(time.Second)
	n.want(true, node2Ended)
	want := []string{
		"10.87.2.10 Warning DrainDeadline: 10.87.0.2:8080 was removed from port 80/TCP with 2 connections left: drainSeconds (300) were over",
	}
	if !slices.Equal(n.events.events, want) {
		t.Errorf("events %q, want %q", n.events.events, want)
	}
}

func TestADeadlineThatComesNearerCounts(t *testing.T) {
	n := drained(t, true, 2)
	n.count()
	n.pass(20 * time.Second)
	limit := int32(10)
	n.vip.Spec.Frontends[0].DrainSeconds = &limit
	n.want(true, node2Ended)
	if len(n.events.events) != 1 || !strings.HasSuffix(n.events.events[0], "with 2 connections left: drainSeconds (10) were over") {
		t.Errorf("events %q", n.events.events)
	}
}

func TestABackendThatComesBackDrainsNoMore(t *testing.T) {
	n := drained(t, true, 2)
	gone := n.machines
	n.machines = ingress(t).machines
	n.want(true, bothServe)
	n.pass(time.Hour)
	n.machines = gone
	n.want(true, node2Ends) // anew, with all of its time
}

func TestAStandbyWaitsForTheDeadline(t *testing.T) {
	n := drained(t, false, 0)
	n.count()
	n.want(false, node2Ends) // the connections are elsewhere
	n.pass(300 * time.Second)
	n.want(false, node2Ended)
	if len(n.events.events) != 0 {
		t.Errorf("a standby tells of what it did not count: %q", n.events.events)
	}
}

func TestANewSpeakerLetsDrainWhatTheOldOneHad(t *testing.T) {
	n := ingress(t)
	n.vip.Spec.Frontends[0].HealthCheck = nil
	n.want(true, bothServe)
	n.machines = n.machines[:1]
	n.start()
	n.want(true, node2Ends)
	n.start()
	n.want(true, node2Ends)
	n.count()
	n.want(true, node2Ended)
	n.start()
	n.want(true, node2Ended)
}

// TestAfterAllWereDownNoneIsCutForThePast: backends that got connections although they were down, because all were, have
// their time from when another is up.
func TestAfterAllWereDownNoneIsCutForThePast(t *testing.T) {
	n := ingress(t)
	n.want(true, bothServe)
	for _, addr := range []string{"10.87.0.1:1936", "10.87.0.2:1936"} {
		n.checker.Fail(n.target(addr), "HTTP GET /: status 503 Service Unavailable")
	}
	n.want(true, bothServe)
	n.pass(time.Hour)
	n.checker.Fail(n.target("10.87.0.1:1936"), "")
	n.want(true, node2Ends)
	n.count()
	n.want(true, node2Ends) // it may come back: that it has no connections does not matter
	if draining := n.gauge("fairlead_speaker_backends_draining"); draining != 0 {
		t.Errorf("the metric says that %v backends drain", draining)
	}
	n.pass(time.Minute)
	n.want(true, node2Ended)
}

func TestADownBackendIsRemovedAndComesBack(t *testing.T) {
	n := ingress(t)
	at := int32(0)
	n.vip.Spec.Frontends[0].HealthCheck.RemoveAfterSeconds = &at
	n.want(true, bothServe)
	n.checker.Fail(n.target("10.87.0.2:1936"), "HTTP GET /: connection refused")
	n.want(true, node2Ended)
	n.want(true, node2Ended)
	n.checker.Fail(n.target("10.87.0.2:1936"), "")
	n.want(true, bothServe)
}

// failing are servers that cannot be read.
type failing struct{}

var errRead = errors.New("the kernel did not answer")

func (failing) Servers() ([]model.Server, error)     { return nil, errRead }
func (failing) Frontends() ([]model.Frontend, error) { return nil, errRead }
func (failing) Server(model.Frontend) (model.Server, bool, error) {
	return model.Server{}, false, errRead
}
func (failing) Connections(model.Frontend) (map[netip.AddrPort]int, error) { return nil, errRead }
func (failing) Apply([]ipvs.Change) (int, error)                           { return 0, errRead }

func TestWhatCannotBeReadIsNotTakenForNothing(t *testing.T) {
	n := drained(t, true, 0)
	n.drains.servers = failing{}
	if err := n.drains.count(); !errors.Is(err, errRead) {
		t.Errorf("counting: error %v", err)
	}
	n.want(true, node2Ends)
	n.start()
	n.drains.servers = failing{}
	if err := n.drains.begin(); !errors.Is(err, errRead) {
		t.Errorf("reading what was there: error %v", err)
	}
	n.drains.servers = n.kernel.servers
	n.want(true, node2Ends)
}

func TestTheEndOfADrainIsToldOfTheVIPItHappenedOn(t *testing.T) {
	n := drained(t, true, 1)
	other := n.vip.DeepCopy()
	other.Name, other.Spec.Address = vip6.String(), vip6.String()
	n.drains.tell([]*v1alpha1.VIP{other, n.vip}, plan.Drain{Frontend: web80, Backend: node2}, 1)
	n.drains.tell([]*v1alpha1.VIP{other}, plan.Drain{Frontend: web80, Backend: node2}, 1)
	if len(n.events.events) != 1 || !strings.HasPrefix(n.events.events[0], n.vip.Name+" ") {
		t.Errorf("events %q, want one of %s", n.events.events, n.vip.Name)
	}
}
