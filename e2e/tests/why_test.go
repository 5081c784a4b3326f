package tests

import (
	"bytes"
	"context"
	"fmt"
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
	_, _, err = plugin(ctx, t, "rebalance", "--dry-run")
	must(t, err)
}
