// Command kubectl-fairlead is a plugin of kubectl. It explains where VIPs are, moves them by hand, and turns the resources of
// other load balancers into Fairlead's.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

// Statuses that commands end with.
const (
	statusBad   = 1 // what was asked about is not as it should be, or was not done
	statusError = 2 // wrong arguments, or the API server did not do what it was asked for
)

// ended is an error with the status that the program is to end with; without an error all is said already.
type ended struct {
	status int
	err    error
}

func (e *ended) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *ended) Unwrap() error { return e.err }

// statusOf is the status for an error.
func statusOf(err error) int {
	var end *ended
	switch {
	case err == nil:
		return 0
	case errors.As(err, &end):
		return end.status
	}
	return statusError
}

func run() int {
	err := command(&connection{}).Execute()
	if err != nil && err.Error() != "" {
		fmt.Fprintln(os.Stderr, "kubectl fairlead:", err)
	}
	return statusOf(err)
}

func command(to *connection) *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-fairlead",
		Short:         "Helps with Fairlead, the load balancer of this cluster",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fairlead"},
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	// kubectl completes plugins in another way.
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(whyCommand(to), moveCommand(to), rebalanceCommand(to), convertCommand())
	return root
}
