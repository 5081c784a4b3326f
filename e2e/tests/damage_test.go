package tests

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// damage is what a neighbour does to a node that holds an address.
type damage struct {
	name  string
	proxy bool // it is kube-proxy's
	// do it on a node, to the addresses of a combination.
	do func(context.Context, *combination, string) error
	// mend what of it is not Fairlead's to mend; nil: nothing.
	mend func(context.Context, *combination, string) error
	// undoes names the layer that is to be reported as repaired on nodes where the command lists shows an address: in isolated
	// placement the host has little to damage. reports is what the event about it says.
	undoes, lists, reports string
	// mode of kube-proxy in which it is to be reported; empty: all.
	mode string
}

var damages = []damage{
	{
		name: "ipvsadm -C", undoes: "ipvs", lists: "ipvsadm -Ln", reports: "IPVS services of VIPs",
		do: shell("ipvsadm -C; " + foreignServers),
	},
	{
		name: "delete table inet fairlead", undoes: "nftables", lists: "nft list table inet fairlead 2>/dev/null || true", reports: "inet fairlead",
		do: shell("nft delete table inet fairlead 2>/dev/null || true"),
	},
	{
		name: "flush table inet fairlead", undoes: "nftables", lists: "nft list table inet fairlead 2>/dev/null || true", reports: "inet fairlead",
		do: shell("nft flush table inet fairlead 2>/dev/null || true"),
	},
	{
		// What the lab itself needs of the node's tables comes back in the same breath.
		name: "nft flush ruleset", undoes: "nftables", lists: "nft list ruleset", reports: "inet fairlead",
		do: shell(`keep=$(nft list table inet lab-network; nft list table inet foreign); nft flush ruleset; echo "$keep" | nft -f -`),
		mend: func(ctx context.Context, c *combination, node string) error {
			if c.proxy == "" {
				return nil
			}
			return c.Fault(ctx, cluster.RestartKubeProxy, node)
		},
	},
	{
		name: "ip addr del", undoes: "addresses", lists: "ip -o addr show", reports: "bound again",
		do: func(ctx context.Context, c *combination, node string) error {
			for _, addr := range c.addresses {
				prefix := netip.PrefixFrom(addr, addr.BitLen())
				if err := shell("ip addr del "+prefix.String()+" dev eth0 2>/dev/null || true")(ctx, c, node); err != nil {
					return err
				}
			}
			return nil
		},
	},
	{
		// In nftables mode it empties the IPVS table then, where modprobe ip_vs succeeds.
		name: "kube-proxy restarts", proxy: true, undoes: "ipvs", lists: "ipvsadm -Ln", reports: "when it starts in nftables mode",
		mode: "--proxy-mode=nftables",
		do: func(ctx context.Context, c *combination, node string) error {
			return c.Fault(ctx, cluster.RestartKubeProxy, node)
		},
	},
	{
		// In ipvs mode a sync deletes the IPVS services that are not kube-proxy's own.
		name: "kube-proxy syncs", proxy: true,
		do: func(ctx context.Context, c *combination, node string) error {
			name := "sync-" + node
			service := scenario.Service(name, func(service *corev1.Service) { service.Spec.Type = corev1.ServiceTypeClusterIP })
			if _, err := c.CreateService(ctx, service); err != nil {
				return err
			}
			return c.Core.CoreV1().Services(service.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
		},
	},
}

// shell runs a script on the node.
func shell(script string) func(context.Context, *combination, string) error {
	return func(ctx context.Context, c *combination, node string) error {
		_, err := c.Output(ctx, node, "sh", "-c", script)
		return err
	}
}

// soon is well below the pace at which the speaker compares everything: what took longer was not noticed, but come across, or waited
// for something that it should not wait for.
const soon = 5 * time.Second

// suffer lets a neighbour do its damage while a client asks, and waits until all is as it was, and told.
func (c *combination) suffer(t *testing.T, d damage) {
	ctx := within(t.Context(), t)
	before := c.state(t)
	counted, hit, holders := map[string]int{}, map[string]bool{}, map[netip.Addr]string{}
	for _, addr := range c.addresses {
		node, err := c.Holder(ctx, addr, "")
		must(t, err)
		holders[addr] = node
		counted[node] = repairs(t, c.Scenario, node, d.undoes)
		if d.lists != "" && strings.Contains(c.proxy, d.mode) {
			listed, err := c.Output(ctx, node, "sh", "-c", d.lists)
			must(t, err)
			hit[node] = hit[node] || strings.Contains(listed, addr.String())
		}
	}
	// Within the timeout no SYN is sent twice: a request that fails was lost.
	probe, err := c.Probe(ctx, "client", cluster.ProbeOptions{Timeout: 900 * time.Millisecond}, urls(c.addresses)...)
	must(t, err)
	must(t, scenario.Until(ctx, func() error { return allUp(probe, len(c.addresses)) }))
	doing := errgroup.Group{}
	for node := range counted {
		doing.Go(func() error { return d.do(ctx, c, node) })
	}
	must(t, doing.Wait())
	must(t, scenario.Until(ctx, func() error {
		// Long enough for a request that was lost to time out, and for kube-proxy to start. Looking costs processes, which
		// are slow in the lab's guest: at full pace it would keep the speakers from their work.
		time.Sleep(time.Second)
		if err := allUp(probe, len(c.addresses)); err != nil {
			return err
		}
		if err := c.proxied(ctx); err != nil {
			return err
		}
		if now := c.state(t); !maps.Equal(now, before) {
			return fmt.Errorf("the nodes have %v, and had %v", now, before)
		}
		return nil
	}))
	c.sum(t, d, probe)
	for addr, node := range holders { // where processors are as scarce as in the lab's guest, a repair may cost a speaker its claim
		if now, err := c.Holder(ctx, addr, ""); err != nil || now != node {
			t.Logf("%s moved from %s to %s meanwhile (error %v)", addr, node, now, err)
			hit[node] = hit[node] && d.undoes != "addresses" // what it holds no more it does not bind again
		}
	}
	for node := range hit {
		if hit[node] {
			c.told(t, d, node, counted[node])
		}
	}
	for node := range counted {
		if d.mend != nil {
			must(t, d.mend(ctx, c, node))
		}
	}
	must(t, scenario.Until(ctx, func() error {
		time.Sleep(time.Second)
		return c.proxied(ctx)
	}))
	if strings.Contains(c.proxy, "--proxy-mode=nftables") {
		for node := range counted { // kube-proxy may have started, and emptied the table
			must(t, shell(foreignServers)(ctx, c, node))
		}
	}
}

// sum ends the probe and notes what the client saw.
func (c *combination) sum(t *testing.T, d damage, probe *cluster.Probe) {
	t.Helper()
	summaries, err := probe.Stop()
	must(t, err)
	var gap, longest float64
	for _, seen := range summaries {
		t.Logf("%s: %d of %d requests failed, for %.0f ms %v; longest time without an answer %.0f ms (longest pause of the prober %.0f ms)",
			seen.URL, seen.Failed, seen.Sent, seen.FailedForMS, seen.Why, seen.LongestGapMS, seen.LongestPauseMS)
		gap, longest = max(gap, seen.LongestGapMS), max(longest, seen.FailedForMS)
	}
	c.gaps = append(c.gaps, fmt.Sprintf("%s\t%.0f / %.0f", d.name, gap, longest))
	if gap > float64(soon/time.Millisecond) && !c.atWar() {
		t.Errorf("there was no answer for %.0f ms", gap)
	}
}

// told waits until a node's speaker has counted a repair, and told of it.
func (c *combination) told(t *testing.T, d damage, node string, before int) {
	t.Helper()
	reports := d.reports
	if d.undoes == "ipvs" && strings.Contains(c.proxy, "--proxy-mode=ipvs") {
		reports = "--ipvs-exclude-cidrs"
	}
	must(t, scenario.Until(within(t.Context(), t), func() error {
		if now := repairs(t, c.Scenario, node, d.undoes); now <= before {
			return fmt.Errorf("node %s counts %d repairs of %s, and had %d", node, now, d.undoes, before)
		}
		return nil
	}))
	event(t, c.Scenario, "Node", node, reports)
}

// repairs is how often a node's speaker says that it repaired a layer; 0 for none.
func repairs(t *testing.T, s *scenario.Scenario, node, layer string) int {
	t.Helper()
	if layer == "" {
		return 0
	}
	return metric(t, s, node, fmt.Sprintf("fairlead_speaker_repairs_total{layer=%q}", layer))
}
