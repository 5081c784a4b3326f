// Command fairlead-speaker is the agent of a node: it elects holders of VIPs with its peers, binds and announces those that
// this node holds, and balances their connections with IPVS.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/kube"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	defer klog.Flush()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fairlead-speaker:", err)
		return 1
	}
	return 0
}

func command() *cobra.Command {
	var config Config
	root := &cobra.Command{
		Use:           "fairlead-speaker",
		Short:         "Holds, announces and balances virtual IPs on this node",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Validate(); err != nil {
				return err
			}
			return serve(cmd.Context(), config)
		},
	}
	config.AddFlags(root.Flags())
	kube.AddLogFlags(root.PersistentFlags())
	root.AddCommand(checkCommand(), cleanupCommand())
	return root
}

func checkCommand() *cobra.Command {
	var node Node
	command := &cobra.Command{
		Use: "check",
		Short: "Prepares this node and prints what it needs: ok, fixed, worth a note, or in need of you; " +
			"the status is 1 if anything needs you",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := node.Validate(); err != nil {
				return err
			}
			return check(cmd.Context(), &node)
		},
	}
	node.AddFlags(command.Flags())
	return command
}

func cleanupCommand() *cobra.Command {
	var node Node
	command := &cobra.Command{
		Use: "cleanup",
		Short: "Removes what speakers left on this node, in either placement: VIPs, their IPVS services, nftables tables, " +
			"the datapath's namespace; and puts sysctls back",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := node.Validate(); err != nil {
				return err
			}
			return cleanup(cmd.Context(), &node)
		},
	}
	node.AddFlags(command.Flags())
	return command
}
