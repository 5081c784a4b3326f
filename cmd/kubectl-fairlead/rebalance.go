package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/pkg/why"
)

const rebalanceLong = `Spreads the VIPs evenly over the nodes that may hold them, with as few moves as that takes: VIPs do not go back by
themselves to a node that was away. Each VIP is put on a node of those that its pool prefers most (preferredNodes),
and equal nodes differ by one VIP at most.

It prints the moves, and then makes one after the other as kubectl fairlead move does; at the first that fails it
stops. VIPs with annotation fairlead.dev/move-to and those that nobody holds are left alone.

It ends with 0 once all is even, with 1 if a VIP did not move, and with 2 if it cannot tell.`

func rebalanceCommand(to *connection) *cobra.Command {
	var (
		pool    string
		dryRun  bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:     "rebalance",
		Short:   "Spreads VIPs evenly over nodes, with the fewest moves",
		Long:    rebalanceLong,
		Example: "  kubectl fairlead rebalance --dry-run\n  kubectl fairlead rebalance --pool lan",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return interruptible(cmd, func(ctx context.Context) error {
				return runRebalance(ctx, cmd.OutOrStdout(), to, pool, dryRun, timeout)
			})
		},
	}
	to.addFlags(cmd.Flags())
	cmd.Flags().StringVar(&pool, "pool", "", "move VIPs of this IPPool only; those of others count still")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print the moves and make none")
	cmd.Flags().DurationVar(&timeout, "timeout", moveTimeout, "how long to wait for each VIP to be there")
	return cmd
}

func runRebalance(ctx context.Context, out io.Writer, to *connection, pool string, dryRun bool, timeout time.Duration) error {
	if err := to.connect(); err != nil {
		return err
	}
	facts, err := to.facts(ctx)
	if err != nil {
		return err
	}
	mover := mover{to: to, cluster: why.New(facts), out: out, timeout: timeout}
	if err := mover.mayRead(facts); err != nil {
		return err
	}
	moves, err := mover.cluster.Rebalance(pool)
	if err != nil {
		return &ended{statusBad, err}
	}
	if len(moves) == 0 {
		fmt.Fprintln(out, "The VIPs are spread evenly: nothing is to be moved.")
		return nil
	}
	fmt.Fprintf(out, "%d of %d VIPs are to move:\n", len(moves), len(facts.VIPs))
	for _, move := range moves {
		fmt.Fprintf(out, "  %s from %s to %s\n", mover.cluster.VIP(move.VIP).Spec.Address, mover.cluster.Owner(move.VIP), move.To.Node)
	}
	if dryRun {
		return nil
	}
	for _, move := range moves {
		if err := mover.move(ctx, move.VIP, move.To.Node); err != nil {
			return err
		}
	}
	return nil
}
