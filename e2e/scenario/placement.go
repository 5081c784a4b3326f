package scenario

import (
	"context"
	"fmt"
	"strings"

	"github.com/fairlead/fairlead/e2e/cluster"
)

// inside is where isolated placement has the datapath's network namespace.
const inside = "/run/fairlead/netns"

// Isolated reports whether a node's datapath is in a network namespace of its own.
func Isolated(ctx context.Context, c cluster.Cluster, node string) (bool, error) {
	out, err := c.Output(ctx, node, "sh", "-c", "if [ -e "+inside+" ]; then echo isolated; fi")
	return strings.TrimSpace(out) == "isolated", err
}

// Everywhere is a command of the shell that runs one on a node and, in isolated placement, in the datapath's network namespace.
func Everywhere(command string) string {
	return fmt.Sprintf("%s; if [ -e %s ]; then nsenter --net=%s sh -c '%s'; fi", command, inside, inside, command)
}
