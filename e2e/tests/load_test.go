package tests

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// TestMovesBesideLoadFromEverywhere: a host outside, every node and a pod on each ask an address by all protocols, 470 times a second
// together, so that ports of one holder are soon those that another had as a client, and it goes round the nodes meanwhile,
// FAIRLEAD_MOVES times.
func TestMovesBesideLoadFromEverywhere(t *testing.T) {
	s, _ := connect(t)
	pool(t, s)
	c := combine(t, s)
	if c.atWar() {
		t.Skip("kube-proxy removes the IPVS services again and again: requests fail without any move")
	}
	moves := atLeastOne(t, "FAIRLEAD_MOVES", len(c.nodes))
	for _, addr := range c.addresses {
		t.Run(family(addr), func(t *testing.T) {
			flawless(t, func() error {
				probes := c.askFromEverywhere(t, addr)
				for range moves {
					ctx := within(t.Context(), t)
					node, err := s.Holder(ctx, addr, "")
					must(t, err)
					must(t, s.MoveTo(ctx, addr, c.nodes[(slices.Index(c.nodes, node)+1)%len(c.nodes)]))
					_, err = s.Holder(ctx, addr, node)
					must(t, err)
					must(t, scenario.Until(ctx, func() error { return notBound(ctx, s, node, addr) }))
					time.Sleep(5 * time.Second) // asked on the way there and after it
				}
				must(t, s.MoveTo(t.Context(), addr, ""))
				return lost(t, probes, moves)
			})
		})
	}
}

// askFromEverywhere asks every port of an address from outside, from every node and from the pod there, and returns the probes by
// host once all of them had answers.
func (c *combination) askFromEverywhere(t *testing.T, addr netip.Addr) map[string]*cluster.Probe {
	t.Helper()
	ctx := t.Context()
	hosts := append([]string{"client"}, c.nodes...)
	for i := range c.nodes {
		hosts = append(hosts, fmt.Sprintf("matrix-%d", i+1))
	}
	probes := map[string]*cluster.Probe{}
	for _, host := range hosts {
		settle := cluster.ProbeOptions{Every: 100 * time.Millisecond, Timeout: 2 * time.Second, UntilAnswer: true, For: patience}
		_, err := c.ask(ctx, host, settle, addr)
		must(t, err)
		probes[host], err = c.Probe(ctx, host, cluster.ProbeOptions{Every: 60 * time.Millisecond, Timeout: 4 * time.Second}, everyPort(addr)...)
		must(t, err)
	}
	return probes
}

// lost stops the probes and returns an error if they lost more than is on its way when a node lets an address go: of each client and
// protocol the request under way to pods, which see the node that balances it.
func lost(t *testing.T, probes map[string]*cluster.Probe, moves int) (err error) {
	t.Helper()
	for _, host := range slices.Sorted(maps.Keys(probes)) {
		summaries, stopped := probes[host].Stop()
		must(t, stopped)
		for _, seen := range summaries {
			t.Logf("%s from %s: %d of %d requests failed: %v", seen.URL, host, seen.Failed, seen.Sent, seen.Why)
			if seen.Failed > moves {
				err = errors.Join(err, fmt.Errorf("%s: %d of %d requests from %s failed in %d moves, first that of %s, for %.0f ms: %v",
					seen.URL, seen.Failed, seen.Sent, host, moves, seen.FirstFailed, seen.FailedForMS, seen.Why))
			}
		}
	}
	return err
}
