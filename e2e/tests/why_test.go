package tests

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// plugin runs kubectl fairlead, of this build, as the cluster's administrator.
func plugin(ctx context.Context, t *testing.T, args ...string) (out, failed string, err error) {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	must(t, err)
	cmd := exec.CommandContext(ctx, "kubectl", append([]string{"fairlead"}, args...)...)
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	t.Logf("kubectl fairlead %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	return stdout.String(), stderr.String(), err
}

// says waits until the answer of why is a good one and has all parts.
func says(ctx context.Context, t *testing.T, what string, parts ...string) {
	t.Helper()
	must(t, scenario.Until(ctx, func() error {
		out, _, err := plugin(ctx, t, "why", what)
		for _, part := range parts {
			if err == nil && !strings.Contains(out, part) {
				err = fmt.Errorf("%q is missing", part)
			}
		}
		return err
	}))
}

// TestWhyTellsWhatIsSoAndMoveMoves asks why of a VIP in a cluster with a node in maintenance, and moves it by hand.
func TestWhyTellsWhatIsSoAndMoveMoves(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	nodes, err := s.Nodes(ctx)
	must(t, err)
	for _, addr := range web(t, s, "asked", nodes[0], nodes[1]) {
		ctx := within(ctx, t)
		from, err := s.Holder(ctx, addr, "")
		must(t, err)
		var to, maintained string
		for _, node := range nodes {
			if node != from {
				to, maintained = maintained, node
			}
		}
		must(t, s.Maintain(ctx, maintained, true))
		t.Cleanup(func() { must(t, s.Maintain(context.Background(), maintained, false)) })

		says(ctx, t, addr.String(), addr.String()+" answers: node "+from+" holds it, and 2 of 2 backends are ready.\n",
			"Services:   default/asked\n", "Held by:    "+from+" on ", "Next:       "+to+"\n",
			maintained+": label "+v1alpha1.LabelMaintenance+"\n", "node "+from+" announces it")

		if _, failed, err := plugin(ctx, t, "move", addr.String(), maintained); err == nil || !strings.Contains(failed, "label "+v1alpha1.LabelMaintenance) {
			t.Errorf("a move to a node in maintenance is not refused: %v", err)
		}
		_, _, err = plugin(ctx, t, "move", addr.String(), to)
		must(t, err)
		vip, err := s.VIP(ctx, addr)
		must(t, err)
		if asked := vip.Annotations[v1alpha1.AnnotationMoveTo]; vip.Status.Node != to || asked != "" {
			t.Errorf("%s is on %s, and asked to move to %q", addr, vip.Status.Node, asked)
		}
		answers(t, s, "client", addr, 80)
		says(ctx, t, "default/asked", "Moved:      from "+from+" to "+to+", ", "it was to move to "+to)
		must(t, s.Maintain(ctx, maintained, false))
	}
}

// TestRebalanceSpreadsWhatGathered: VIPs that one node took over stay there when the others are back, until somebody asks.
func TestRebalanceSpreadsWhatGathered(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	nodes, err := s.Nodes(ctx)
	must(t, err)
	for _, node := range nodes[1:] {
		must(t, s.Maintain(ctx, node, true))
		defer func() { must(t, s.Maintain(context.WithoutCancel(ctx), node, false)) }()
	}
	var addresses []netip.Addr
	for _, name := range []string{"gathered-1", "gathered-2", "gathered-3"} {
		addresses = append(addresses, web(t, s, name, nodes[0])...)
	}
	spread := func(want int) {
		t.Helper()
		held := map[string]int{}
		for _, addr := range addresses {
			answers(t, s, "client", addr, 80)
			holder, err := s.Holder(within(ctx, t), addr, "")
			must(t, err)
			held[holder]++
		}
		for _, node := range nodes {
			if held[node] != want && (node == nodes[0] || want < len(addresses)) {
				t.Errorf("nodes hold %v VIPs, want %d on %s", held, want, node)
			}
		}
	}
	spread(len(addresses))
	for _, node := range nodes[1:] {
		must(t, s.Maintain(ctx, node, false))
	}
	must(t, scenario.Until(within(ctx, t), func() error { // until the plugin sees them as candidates again
		out, _, err := plugin(ctx, t, "rebalance", "--dry-run")
		if want := fmt.Sprintf("%d of %d VIPs are to move", len(addresses)-len(addresses)/len(nodes), len(addresses)); err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("rebalance does not say %q", want)
		}
		return err
	}))
	spread(len(addresses)) // nobody moved them back
	_, _, err = plugin(ctx, t, "rebalance")
	must(t, err)
	spread(len(addresses) / len(nodes))
	out, _, err := plugin(ctx, t, "rebalance")
	if err != nil || !strings.Contains(out, "spread evenly") {
		t.Errorf("a second rebalance: %v", err)
	}
}
