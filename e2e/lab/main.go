// Command lab runs a real Kubernetes cluster network on one machine: see e2e/README.md. Its subcommands set a lab up and
// run a command in it, talk to the lab that they are called in, or are the programs that run on the lab's hosts.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/driver"
)

// usageStatus is the exit status of a wrong command line.
const usageStatus = 2

func main() { os.Exit(run()) }

func run() int {
	root := &cobra.Command{
		Use: "lab", Short: "A real Kubernetes cluster network on one machine", SilenceErrors: true, SilenceUsage: true,
		Args: args(cobra.NoArgs), RunE: help,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(runCommand(), shellCommand(), vmCommand())
	root.AddCommand(hostsCommand(), execCommand(), logsCommand(), podCommand(), faultCommand(), secondCommand())
	root.AddCommand(serveCommand(), probeCommand(), talkCommand(), scanCommand(), loadCommand(), agentCommand())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	return statusOf(root.Execute())
}

// usageError is a wrong command line.
type usageError struct{ error }

// statusError is a command's own exit status, about which there is nothing to say.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// statusOf says what went wrong and returns the exit status for it.
func statusOf(err error) int {
	var status statusError
	var exit *cluster.ExitError
	var interrupted driver.Interrupted
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &exit):
		return exit.Status
	}
	fmt.Fprintln(os.Stderr, "lab:", err)
	switch {
	case errors.As(err, &usage):
		return usageStatus
	case errors.As(err, &interrupted):
		return 128 + int(interrupted.Signal)
	}
	return 1
}

// args makes an argument check of cobra's a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(command *cobra.Command, arguments []string) error {
		if err := check(command, arguments); err != nil {
			return usageError{fmt.Errorf("%w\nusage: %s", err, command.UseLine())}
		}
		return nil
	}
}

// help is what a command says that only has subcommands.
func help(command *cobra.Command, _ []string) error { return command.Help() }

// commandArgs wants a COMMAND behind least other arguments. What follows the first argument is never a flag of ours.
func commandArgs(command *cobra.Command, least int) {
	command.Flags().SetInterspersed(false)
	command.Args = func(command *cobra.Command, arguments []string) error {
		if len(arguments) <= least {
			return usageError{fmt.Errorf("no COMMAND is given\nusage: %s", command.UseLine())}
		}
		return nil
	}
}
