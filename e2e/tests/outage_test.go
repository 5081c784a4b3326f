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
	services := map[string][]netip.Addr{"away": web(t, s, "away", "n1", "n2"), "gone": web(t, s, "gone", "n2", "n3")}
	flawless(t, func() error { return loseAPI(t, s, slices.Concat(services["away"], services["gone"])) })
	for service, addresses := range services {
		again, err := s.Addresses(within(t.Context(), t), service, len(addresses))
		must(t, err)
		for _, addr := range addresses {
			answers(t, s, "client", addr, 80)
			if !slices.Contains(again, addr) {
				t.Errorf("Service %s had %v and has %v", service, addresses, again)
			}
		}
	}
}

// TestWhoStandsStillInAnOutageHasItsVIPsBack: a speaker that is stopped for longer than its right lasts, while the API server is
// away, loses its VIP to nobody, and has it again when it goes on although nobody can confirm that but its peers.
func TestWhoStandsStillInAnOutageHasItsVIPsBack(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	for _, addr := range web(t, s, "still", "n1", "n2") {
		t.Run(family(addr), func(t *testing.T) {
			answers(t, s, "client", addr, 80) // nobody learns of backends later
			holder, err := s.Holder(within(ctx, t), addr, "")
			must(t, err)
			t.Cleanup(func() {
				must(t, s.Fault(context.Background(), cluster.APIUp, ""))
				must(t, s.Fault(context.Background(), cluster.ThawSpeaker, holder))
			})
			must(t, s.Fault(ctx, cluster.APIDown, ""))
			time.Sleep(2 * election.DefaultTiming().TTake) // the right is what the peers say by then
			answers(t, s, "client", addr, 80)
			probe, err := s.Probe(ctx, "client", cluster.ProbeOptions{}, fmt.Sprintf("http://%s/", netip.AddrPortFrom(addr, 80)))
			must(t, err)
			must(t, s.Fault(ctx, cluster.FreezeSpeaker, holder))
			up := func(want bool) func() error {
				return func() error {
					if err := allUp(probe, 1); (err == nil) != want {
						return fmt.Errorf("%s answers: %v, want %v", addr, err == nil, want)
					}
					return nil
				}
			}
			must(t, scenario.Until(within(ctx, t), up(false)))
			must(t, s.Fault(ctx, cluster.ThawSpeaker, holder))
			must(t, scenario.Until(within(ctx, t), up(true)))
			_, err = probe.Stop()
			must(t, err)
			must(t, s.Fault(ctx, cluster.APIUp, ""))
			time.Sleep(2 * election.DefaultTiming().TTake)
			now, err := s.Holder(within(ctx, t), addr, "")
			must(t, err)
			if now != holder {
				t.Errorf("%s was held by %s and is by %s", addr, holder, now)
			}
		})
	}
}

// loseAPI takes the API server away for a while.
func loseAPI(t *testing.T, s *scenario.Scenario, addresses []netip.Addr) error {
	t.Helper()
	ctx := t.Context()
	w := keepAsking(t, s, addresses)
	must(t, s.Fault(ctx, cluster.APIDown, ""))
	time.Sleep(outage(t))
	must(t, s.Fault(context.WithoutCancel(ctx), cluster.APIUp, ""))
	time.Sleep(2 * election.DefaultTiming().TTake) // by then somebody would have taken one that seemed free
	return w.flaws()
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
