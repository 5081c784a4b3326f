// Command kubectl-fairlead is a plugin of kubectl: kubectl fairlead convert turns the resources of other load balancers into
// Fairlead's.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

func run() int {
	if err := command().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "kubectl fairlead:", err)
		return 1
	}
	return 0
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-fairlead",
		Short:         "Helps with Fairlead, the load balancer of this cluster",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fairlead"},
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	// kubectl completes plugins in another way.
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(convertCommand())
	return root
}
