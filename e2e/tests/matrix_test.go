package tests

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// combination is one of placement, mode of kube-proxy and address families, whatever the lab was started with, and in it a
// Service of all protocols with a backend on every node. make test-matrix plays all of them, make test that of its lab.
type combination struct {
	*scenario.Scenario
	nodes     []string
	addresses []netip.Addr
	// proxy are kube-proxy's flags; empty without it.
	proxy string
	gaps  []string
}

// matrixFile names, in the environment, the file that make test-matrix has measurements written to.
const matrixFile = "FAIRLEAD_MATRIX"

func TestTheMatrixOfNeighbours(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	c := combine(t, s)
	foreign := plantForeign(t, c)
	t.Run("every client reaches every port", c.reach)
	for _, d := range damages {
		if c.proxy != "" || !d.proxy {
			t.Run(d.name, func(t *testing.T) { c.suffer(t, d) })
		}
	}
	t.Run("every client reaches every port after that", c.reach)
	t.Run("every client reaches every port after a move", func(t *testing.T) {
		holder, err := s.Holder(within(ctx, t), c.addresses[0], "")
		must(t, err)
		must(t, s.Maintain(ctx, holder, true))
		t.Cleanup(func() { must(t, s.Maintain(context.Background(), holder, false)) })
		for _, addr := range c.addresses {
			_, err := s.Holder(within(ctx, t), addr, holder)
			must(t, err)
		}
		c.reach(t)
	})
	t.Run("what is not ours is as it was", foreign.check)
	t.Log(c.proxy, c.gaps)
	if file := os.Getenv(matrixFile); file != "" {
		must(t, os.WriteFile(file, []byte(strings.Join(c.gaps, "\n")+"\n"), 0o644))
	}
}

func combine(t *testing.T, s *scenario.Scenario) *combination {
	t.Helper()
	ctx := within(t.Context(), t)
	nodes, err := s.Nodes(ctx)
	must(t, err)
	c := &combination{Scenario: s, nodes: nodes}
	// pgrep would find its own shell by the plain flag.
	c.proxy, err = s.Output(ctx, nodes[0], "sh", "-c", `pid=$(pgrep -f '[-]-proxy-mode=' | head -1); [ -z "$pid" ] || tr '\0' ' ' </proc/$pid/cmdline`)
	must(t, err)
	c.addresses = everyProtocol(t, s, "matrix", nodes...)
	return c
}

// clients of an address: on the LAN and behind the router, the holder and another node, a pod on each of them.
func (c *combination) clients(t *testing.T, addr netip.Addr) map[string]string {
	t.Helper()
	holder, err := c.Holder(within(t.Context(), t), addr, "")
	must(t, err)
	at := slices.Index(c.nodes, holder)
	other := (at + 1) % len(c.nodes)
	return map[string]string{
		"client": "client", "client behind the router": "far", "holder": holder, "other node": c.nodes[other],
		"pod on the holder": fmt.Sprintf("matrix-%d", at+1), "pod elsewhere": fmt.Sprintf("matrix-%d", other+1),
	}
}

// atWar reports whether kube-proxy removes our IPVS services at every sync, as it does in ipvs mode where it is not told to
// leave them: requests fail again and again for a moment then.
func (c *combination) atWar() bool {
	return strings.Contains(c.proxy, "--proxy-mode=ipvs") && !strings.Contains(c.proxy, "10.87.")
}

// reach asks every port of every address from every kind of client: no request fails, and every backend answers; with
// make test-matrix at once, else as soon as the machine lets it.
func (c *combination) reach(t *testing.T) {
	for _, addr := range c.addresses {
		clients := c.clients(t, addr)
		for _, kind := range slices.Sorted(maps.Keys(clients)) {
			t.Run(fmt.Sprintf("%s from %s", family(addr), kind), func(t *testing.T) {
				ctx := within(t.Context(), t)
				settle := cluster.ProbeOptions{Every: 100 * time.Millisecond, Timeout: 2 * time.Second, UntilAnswer: true, For: patience}
				_, err := c.ask(ctx, clients[kind], settle, addr)
				must(t, err)
				if !c.atWar() && os.Getenv(strictly) != "" {
					must(t, c.all(ctx, clients[kind], addr))
					return
				}
				must(t, scenario.Until(ctx, func() error { return c.all(ctx, clients[kind], addr) }))
			})
		}
	}
}

// all returns nil if every port of an address answers a host, every time, and every backend does.
func (c *combination) all(ctx context.Context, host string, addr netip.Addr) error {
	options := cluster.ProbeOptions{Every: 30 * time.Millisecond, Timeout: 5 * time.Second, Count: 15}
	summaries, err := c.ask(ctx, host, options, addr)
	by := map[string]bool{}
	for _, seen := range summaries {
		if seen.Failed > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %d of %d requests from %s failed: %v", seen.URL, seen.Failed, seen.Sent, host, seen.Why))
		}
		for name := range seen.By {
			by[name] = true
		}
	}
	if len(by) != len(c.nodes) {
		err = errors.Join(err, fmt.Errorf("%s was answered by %v, not by all %d backends of %s", host, by, len(c.nodes), addr))
	}
	return err
}

// ask asks every port of an address until the options end it.
func (c *combination) ask(ctx context.Context, host string, options cluster.ProbeOptions, addr netip.Addr) ([]cluster.ProbeSummary, error) {
	probe, err := c.Probe(ctx, host, options, everyPort(addr)...)
	if err != nil {
		return nil, err
	}
	return probe.Wait(ctx)
}

// everyPort gives the URLs of every port of an address.
func everyPort(addr netip.Addr) (out []string) {
	for _, p := range ports {
		out = append(out, p.scheme+"://"+netip.AddrPortFrom(addr, uint16(p.port)).String())
	}
	return out
}

// proxied returns nil once kube-proxy, if there is one, has programmed every node.
func (c *combination) proxied(ctx context.Context) (err error) {
	for _, node := range c.nodes {
		if c.proxy != "" && err == nil {
			_, err = c.Output(ctx, node, "curl", "-sf", "http://localhost:10256/healthz")
		}
	}
	return err
}

// state is what each node's kernel has of the addresses, and that one of them has each; without IPVS services where kube-proxy takes
// them away at any moment.
func (c *combination) state(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	for _, node := range c.nodes {
		traces, err := scenario.Traces(t.Context(), c.Cluster, node, c.addresses...)
		must(t, err)
		traces = slices.DeleteFunc(traces, func(trace string) bool {
			if strings.HasPrefix(trace, "address") {
				state[trace] += "bound "
				return true
			}
			return c.atWar() && strings.HasPrefix(trace, "IPVS")
		})
		state[node] = strings.Join(traces, ", ")
	}
	return state
}

// allUp returns nil if each of count URLs answers.
func allUp(probe *cluster.Probe, count int) error {
	up := map[string]bool{}
	for _, event := range probe.Events() {
		up[event.URL] = event.Up
	}
	for url, answers := range up {
		if !answers {
			return fmt.Errorf("%s does not answer", url)
		}
	}
	if len(up) < count {
		return fmt.Errorf("of %d addresses only %v were asked", count, up)
	}
	return nil
}

// metric is a number that a node's speaker tells, by its name with labels.
func metric(t *testing.T, s *scenario.Scenario, node, name string) int {
	t.Helper()
	text, err := s.Output(t.Context(), node, "curl", "-s", "http://localhost:7473/metrics")
	must(t, err)
	for line := range strings.Lines(text) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			must(t, err)
			return n
		}
	}
	t.Fatalf("the speaker of node %s has no metric %s", node, name)
	return 0
}
