package tests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/source"
)

// outage is how long the API server is away: some times TTake, or what FAIRLEAD_OUTAGE says.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("FAIRLEAD_OUTAGE")
	if text == "" {
		return 5 * election.DefaultTiming().TTake
	}
	d, err := time.ParseDuration(text)
	must(t, err)
	return d
}

// TestAnOutageOfTheAPIServerMovesNothing: holders hold on while the API server answers nobody, every address answers all the time, and
// all are where they were when it is back.
func TestAnOutageOfTheAPIServerMovesNothing(t *testing.T) {
	s, _ := connect(t)
	pool(t, s)
	addresses := slices.Concat(web(t, s, "away", "n1", "n2"), web(t, s, "gone", "n2", "n3"))
	flawless(t, func() error { return loseAPI(t, s, addresses) })
}

// loseAPI takes the API server away for a while.
func loseAPI(t *testing.T, s *scenario.Scenario, addresses []netip.Addr) (failed error) {
	t.Helper()
	ctx := t.Context()
	held := map[netip.Addr]string{}
	var urls []string
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
		holder, err := s.Holder(within(ctx, t), addr, "")
		must(t, err)
		held[addr] = holder
		urls = append(urls, scenario.URL(addr, 80))
	}
	probe, err := s.Probe(ctx, "client", cluster.ProbeOptions{Every: 50 * time.Millisecond, Timeout: 10 * time.Second}, urls...)
	must(t, err)
	must(t, scenario.Until(within(ctx, t), func() error { return up(probe) }))
	must(t, s.Fault(ctx, cluster.APIDown, ""))
	time.Sleep(outage(t))
	must(t, s.Fault(context.WithoutCancel(ctx), cluster.APIUp, ""))
	time.Sleep(2 * election.DefaultTiming().TTake) // by then somebody would have taken one that seemed free
	summaries, err := probe.Stop()
	must(t, err)
	for _, seen := range summaries {
		t.Logf("%s: longest time without an answer %.0f ms, %d of %d requests failed", seen.URL, seen.LongestGapMS, seen.Failed, seen.Sent)
		if seen.Failed > 0 {
			failed = errors.Join(failed, fmt.Errorf("%s: %d of %d requests failed: %v", seen.URL, seen.Failed, seen.Sent, seen.Why))
		}
	}
	return errors.Join(failed, stillHeld(t, s, held))
}

// TestABadNetworkMovesNothing: nodes that lose one packet in five and delay the others by up to 200 ms find each other alive.
func TestABadNetworkMovesNothing(t *testing.T) {
	s, _ := connect(t)
	pool(t, s)
	addresses := web(t, s, "lossy", "n1", "n2")
	flawless(t, func() error { return spoilNetwork(t, s, addresses) })
}

// spoilNetwork loses and delays packets between nodes for a while.
func spoilNetwork(t *testing.T, s *scenario.Scenario, addresses []netip.Addr) (moved error) {
	t.Helper()
	ctx := t.Context()
	held := map[netip.Addr]string{}
	for _, addr := range addresses {
		holder, err := s.Holder(within(ctx, t), addr, "")
		must(t, err)
		held[addr] = holder
	}
	transitions := func(addr netip.Addr) int32 {
		lease, err := s.Core.CoordinationV1().Leases(scenario.SystemNamespace).Get(ctx, election.ClaimName(source.VIPName(addr)), metav1.GetOptions{})
		must(t, err)
		return ptr.Deref(lease.Spec.LeaseTransitions, 0)
	}
	before := map[netip.Addr]int32{}
	for addr := range held {
		before[addr] = transitions(addr)
	}
	nodes, err := s.Nodes(ctx)
	must(t, err)
	for _, node := range nodes {
		_, err := s.Output(ctx, node, "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "100ms", "100ms", "loss", "20%")
		must(t, err)
		defer func() {
			_, err := s.Output(context.WithoutCancel(ctx), node, "tc", "qdisc", "del", "dev", "eth0", "root")
			must(t, err)
		}()
	}
	time.Sleep(30 * time.Second)
	for addr, node := range held {
		holder, err := s.Holder(within(ctx, t), addr, "")
		must(t, err)
		if now := transitions(addr); holder != node || now != before[addr] {
			moved = errors.Join(moved, fmt.Errorf("%s was on %s and is on %s; its claim changed hands %d times", addr, node, holder, now-before[addr]))
		}
	}
	return moved
}
