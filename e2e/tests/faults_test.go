package tests

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/election"
)

// TestANodeThatIsOutOfReachLosesItsAddress: what comes between it and its clients, the other speakers or the API server.
func TestANodeThatIsOutOfReachLosesItsAddress(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	for i, test := range []struct {
		name   string
		faults []cluster.FaultKind
	}{
		{"cut from the LAN, not from the API server", []cluster.FaultKind{cluster.CutLAN}},
		{"cut from both", []cluster.FaultKind{cluster.CutLAN, cluster.CutAPI}},
		{"nobody hears it", []cluster.FaultKind{cluster.CutSending}},
		{"it hears nobody", []cluster.FaultKind{cluster.CutReceiving}},
		{"its cable is pulled", []cluster.FaultKind{cluster.CutCarrier}},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := apart(t, s, fmt.Sprintf("unheard-%d", i))[i%2]
			node, _ := strike(t, s, test.faults[0], addr, test.faults[1:]...)
			must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, node, addr) }))
			must(t, s.Fault(ctx, cluster.Heal, node))
			must(t, scenario.Until(within(ctx, t), func() error { return living(ctx, s, node) }))
			must(t, scenario.Until(within(ctx, t), func() error { return oneHolder(ctx, s, addr) }))
			answers(t, s, "client", addr, 80)
		})
	}
}

// TestANodeThatWasAwayIsAStandbyAtOnce, and knows what happens to others: what the API server sent it meanwhile TCP sends again only
// after about as long as it was away (RFC 6298, section 5.5), so that a takeover would wait for half a minute here.
func TestANodeThatWasAwayIsAStandbyAtOnce(t *testing.T) {
	s, ctx := connect(t)
	nodes, err := s.Nodes(ctx)
	must(t, err)
	poolWith(t, s, onNodes(nodes[:2]))
	addr := web(t, s, "back", nodes[2])[0]
	answers(t, s, "client", addr, 80)
	holder, err := s.Holder(within(ctx, t), addr, "")
	must(t, err)
	standby := nodes[1-slices.Index(nodes, holder)]
	must(t, s.Fault(ctx, cluster.CutCarrier, standby))
	time.Sleep(40 * time.Second) // TCP tries again 25 s after its beginning, then 51
	must(t, s.Fault(ctx, cluster.Heal, standby))
	back := time.Now()
	must(t, scenario.Until(within(ctx, t), func() error { return renewed(ctx, s, standby, back) }))
	seen := whileAsked(t, s, addr, func(ctx context.Context) error {
		err := s.Fault(ctx, cluster.KillSpeaker, holder)
		if err == nil {
			_, err = s.Holder(ctx, addr, holder)
		}
		return err
	})
	t.Logf("%s was without an answer for %.0f ms", addr, seen.LongestGapMS)
	if seen.LongestGapMS > 8000 {
		t.Errorf("%s, which was back, took %.0f ms to take over", standby, seen.LongestGapMS)
	}
	must(t, s.Fault(ctx, cluster.StartSpeaker, holder))
}

// renewed returns nil if a node renewed its heartbeat after a moment.
func renewed(ctx context.Context, s *scenario.Scenario, node string, after time.Time) error {
	lease, err := s.Core.CoordinationV1().Leases(scenario.SystemNamespace).Get(ctx, election.HeartbeatName(node), metav1.GetOptions{})
	if err == nil && (lease.Spec.HolderIdentity == nil || lease.Spec.RenewTime == nil || !lease.Spec.RenewTime.After(after)) {
		err = fmt.Errorf("the heartbeat of %s was last renewed at %v", node, lease.Spec.RenewTime)
	}
	return err
}

// TestANodeThatComesBackLateGivesUpWhatItStillHas: as a machine that stood still does, whose kernel kept the addresses.
func TestANodeThatComesBackLateGivesUpWhatItStillHas(t *testing.T) {
	s, ctx := connect(t)
	if isolated(t, s) {
		t.Skip("an isolated datapath has no addresses that a node could have kept")
	}
	pool(t, s)
	addresses := apart(t, s, "late")
	for _, addr := range addresses {
		node, _ := strike(t, s, cluster.FreezeSpeaker, addr, cluster.CutLAN, cluster.CutAPI)
		must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, node, addr) }))
		kept := []string{"ip", "addr", "add", netip.PrefixFrom(addr, addr.BitLen()).String(), "dev", "eth0"}
		if addr.Is6() {
			kept = append(kept, "nodad")
		}
		_, err := s.Output(ctx, node, kept...)
		must(t, err)
		time.Sleep(20 * time.Second) // longer than anybody waits for it
		holder, err := s.Holder(within(ctx, t), addr, node)
		must(t, err)
		must(t, s.Fault(ctx, cluster.Heal, node)) // and its speaker finds itself years later
		must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, node, addr) }))
		must(t, scenario.Until(within(ctx, t), func() error { return living(ctx, s, node) }))
		if now, err := s.Holder(within(ctx, t), addr, ""); err != nil || now != holder {
			t.Errorf("%s was held by %s, and is by %s after node %s came back: %v", addr, holder, now, node, err)
		}
		must(t, oneHolder(ctx, s, addr))
		answers(t, s, "client", addr, 80)
	}
}

// TestASlowStoreMovesNothing: every write of the API server takes up to two seconds.
func TestASlowStoreMovesNothing(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := web(t, s, "slow-store", "n1", "n2")
	flawless(t, func() error {
		w := keepAsking(t, s, addresses)
		must(t, s.Fault(ctx, cluster.SlowStore, ""))
		defer func() { must(t, s.Fault(context.WithoutCancel(ctx), cluster.QuickStore, "")) }()
		time.Sleep(30 * time.Second)
		return w.flaws()
	})
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
}

// TestClocksThatJumpMoveNothing: those of all nodes, three hours ahead of the API server's and back.
func TestClocksThatJumpMoveNothing(t *testing.T) {
	s, ctx := connect(t)
	processor, err := s.Output(ctx, "n1", "cat", "/proc/cpuinfo")
	must(t, err)
	if !strings.Contains(processor, "User Mode Linux") {
		t.Skip("the nodes' clock is this machine's, which is nobody's to set")
	}
	pool(t, s)
	addresses := web(t, s, "clock", "n1", "n2")
	jump := func(hours int) {
		_, err := s.Output(context.WithoutCancel(ctx), "n1", "sh", "-c", fmt.Sprintf("date --set=@$(($(date +%%s) + %d))", hours*3600))
		must(t, err)
	}
	flawless(t, func() error {
		w := keepAsking(t, s, addresses)
		jump(3)
		time.Sleep(8 * time.Second)
		jump(-3)
		time.Sleep(8 * time.Second)
		return w.flaws()
	})
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
}
