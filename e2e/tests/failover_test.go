package tests

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/election"
)

// strike lets a fault, or several at once, hit the holder of an address while a client asks it, waits until another node holds it
// and it answers, and returns the struck node with what the client saw. The client also hears who announces the address.
func strike(t testing.TB, s *scenario.Scenario, fault cluster.FaultKind, addr netip.Addr, also ...cluster.FaultKind) (node string, seen cluster.ProbeSummary) {
	t.Helper()
	ctx := within(t.Context(), t)
	node, err := s.Holder(ctx, addr, "")
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() { // who heals it did not come to that, and the tests that follow need the node
			must(t, s.Fault(context.Background(), cluster.Heal, node))
		}
	})
	stop, err := s.Hear(ctx, "client")
	must(t, err)
	seen = whileAsked(t, s, addr, func(ctx context.Context) error {
		for _, kind := range append([]cluster.FaultKind{fault}, also...) {
			if err := s.Fault(ctx, kind, node); err != nil {
				return err
			}
		}
		_, err := s.Holder(ctx, addr, node)
		return err
	})
	announcements, err := stop()
	must(t, err)
	overlap, hosts := scenario.Overlap(announcements, addr)
	if hosts < 1 || overlap > election.DefaultTiming().TTake {
		t.Errorf("%s was announced by %d hosts, by one %v after the next: %v", addr, hosts, overlap, announcements)
	}
	t.Logf("%s: longest time without an answer %.0f ms, announced by two for %d ms", addr, seen.LongestGapMS, overlap.Milliseconds())
	return node, seen
}

// whileAsked lets something happen while a client asks an address, waits until it answers, and returns what the client saw.
func whileAsked(t testing.TB, s *scenario.Scenario, addr netip.Addr, happen func(context.Context) error) cluster.ProbeSummary {
	t.Helper()
	ctx := within(t.Context(), t)
	probe, err := s.Probe(ctx, "client", cluster.ProbeOptions{}, scenario.URL(addr, 80))
	must(t, err)
	must(t, scenario.Until(ctx, func() error { return up(probe) }))
	must(t, happen(ctx))
	must(t, scenario.Until(ctx, func() error { return up(probe) }))
	time.Sleep(time.Second) // long enough for a request that was lost to time out
	must(t, scenario.Until(ctx, func() error { return up(probe) }))
	summaries, err := probe.Stop()
	must(t, err)
	if len(summaries) != 1 {
		t.Fatalf("the probe gave %d summaries", len(summaries))
	}
	return summaries[0]
}

func up(probe *cluster.Probe) error {
	events := probe.Events()
	if len(events) == 0 || !events[len(events)-1].Up {
		return fmt.Errorf("the address does not answer: %v", events)
	}
	return nil
}

// apart makes a Service whose pod is on a node that holds neither of its addresses, and returns them.
func apart(t testing.TB, s *scenario.Scenario, name string) []netip.Addr {
	t.Helper()
	ctx := within(t.Context(), t)
	_, err := s.CreateService(ctx, scenario.Service(name))
	must(t, err)
	addresses, err := s.Addresses(ctx, name, 2)
	must(t, err)
	t.Cleanup(func() {
		ctx := within(context.Background(), t)
		must(t, s.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, name, metav1.DeleteOptions{}))
		must(t, s.DeletePod(ctx, name+"-1"))
		must(t, s.Gone(ctx, addresses...))
	})
	nodes, err := s.Nodes(ctx)
	must(t, err)
	for _, addr := range addresses {
		holder, err := s.Holder(ctx, addr, "")
		must(t, err)
		nodes = slices.DeleteFunc(nodes, func(n string) bool { return n == holder })
	}
	must(t, s.AddWebPods(ctx, name, nodes[0]))
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
	return addresses
}

func TestAnotherNodeTakesOverWhenASpeakerIsKilled(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	for _, addr := range web(t, s, "killed", "n1", "n2") {
		answers(t, s, "client", addr, 80)
		node, _ := strike(t, s, cluster.KillSpeaker, addr)
		must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, node, addr) }))
		must(t, s.Fault(ctx, cluster.StartSpeaker, node))
	}
}

func notBound(ctx context.Context, s *scenario.Scenario, node string, addr netip.Addr) error {
	traces, err := scenario.Traces(ctx, s.Cluster, node, addr)
	if err == nil && slices.Contains(traces, "address "+addr.String()) {
		err = fmt.Errorf("node %s still has address %s", node, addr)
	}
	return err
}

func TestAnotherNodeTakesOverWhenAMachineLosesPower(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addr := apart(t, s, "powerless")[0]
	node, _ := strike(t, s, cluster.PowerOff, addr)
	must(t, s.Fault(ctx, cluster.PowerOn, node))
	holder, err := s.Holder(within(ctx, t), addr, node)
	must(t, err)
	t.Logf("after power-on of %s the address stays on %s", node, holder)
	answers(t, s, "client", addr, 80)
}

// TestAFrozenSpeakerLosesItsAddress: the kernel's fence removes what the speaker cannot, and when it thaws it finds its
// right lapsed.
func TestAFrozenSpeakerLosesItsAddress(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addr := apart(t, s, "frozen")[0]
	node, _ := strike(t, s, cluster.FreezeSpeaker, addr)
	must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, node, addr) }))
	must(t, s.Fault(ctx, cluster.ThawSpeaker, node))
	must(t, scenario.Until(within(ctx, t), func() error { return living(ctx, s, node) }))
	must(t, notBound(ctx, s, node, addr))
	answers(t, s, "client", addr, 80)
}

// living returns nil if a node's heartbeat stands.
func living(ctx context.Context, s *scenario.Scenario, node string) error {
	lease, err := s.Core.CoordinationV1().Leases(scenario.SystemNamespace).Get(ctx, election.HeartbeatName(node), metav1.GetOptions{})
	if err == nil && lease.Spec.HolderIdentity == nil {
		err = fmt.Errorf("the heartbeat of %s is revoked", node)
	}
	return err
}

func TestANodeCutFromTheAPIGivesItsAddressUp(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addr := apart(t, s, "cut")[0]
	node, _ := strike(t, s, cluster.CutAPI, addr)
	must(t, notBound(ctx, s, node, addr))
	must(t, s.Fault(ctx, cluster.Heal, node))
	must(t, scenario.Until(within(ctx, t), func() error { return living(ctx, s, node) }))
	answers(t, s, "client", addr, 80)
}

// TestAKilledSpeakerThatComesBackLeavesOneHolder: it may find that another has its addresses by then, or go on with them.
func TestAKilledSpeakerThatComesBackLeavesOneHolder(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addr := apart(t, s, "restarted")[0]
	node, err := s.Holder(within(ctx, t), addr, "")
	must(t, err)
	probe, err := s.Probe(ctx, "client", cluster.ProbeOptions{}, scenario.URL(addr, 80))
	must(t, err)
	must(t, s.Fault(ctx, cluster.KillSpeaker, node))
	must(t, s.Fault(ctx, cluster.StartSpeaker, node))
	time.Sleep(2 * election.DefaultTiming().TTake) // by then another would have taken it
	summaries, err := probe.Stop()
	must(t, err)
	t.Logf("longest time without an answer %.0f ms, %d of %d answered", summaries[0].LongestGapMS, summaries[0].Answered, summaries[0].Sent)
	must(t, scenario.Until(within(ctx, t), func() error { return oneHolder(ctx, s, addr) }))
	answers(t, s, "client", addr, 80)
}

// oneHolder returns nil if only the node that the VIP's status names has an address.
func oneHolder(ctx context.Context, s *scenario.Scenario, addr netip.Addr) error {
	holder, err := s.Holder(ctx, addr, "")
	if err != nil {
		return err
	}
	nodes, err := s.Nodes(ctx)
	for _, node := range nodes {
		if node != holder && err == nil {
			err = notBound(ctx, s, node, addr)
		}
	}
	return err
}

func TestServicesAreServedWithoutTheirController(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	must(t, s.Fault(ctx, cluster.KillController, ""))
	t.Cleanup(func() { must(t, s.Fault(context.Background(), cluster.StartController, "")) })
	// The other replica leads when the dead one's Lease has run out.
	for _, addr := range web(t, s, "leaderless", "n1") {
		answers(t, s, "client", addr, 80)
	}
}

func TestAServiceDeletedWhileNoControllerRunsLeavesNothing(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	_, err := s.CreateService(ctx, scenario.Service("orphan"))
	must(t, err)
	addresses, err := s.Addresses(within(ctx, t), "orphan", 2)
	must(t, err)
	must(t, s.Fault(ctx, cluster.KillController, ""))
	must(t, s.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, "orphan", metav1.DeleteOptions{}))
	must(t, s.Fault(ctx, cluster.StartController, ""))
	must(t, s.Gone(within(ctx, t), addresses...))
}

func TestAnIPVSTableThatSomebodyEmptiedIsFilledAgain(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	for _, addr := range web(t, s, "emptied", "n1") {
		answers(t, s, "client", addr, 80)
		node, err := s.Holder(within(ctx, t), addr, "")
		must(t, err)
		_, err = s.Output(ctx, node, "ipvsadm", "-C")
		must(t, err)
		answers(t, s, "client", addr, 80)
	}
}
