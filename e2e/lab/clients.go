package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/cluster"
)

// logPoll is how often a followed log is looked at.
const logPoll = 100 * time.Millisecond

func rootContext() context.Context { return context.Background() }

// table writes rows in columns, or value as JSON.
func table(output string, value any, head string, rows func(io.Writer)) error {
	if output == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(value)
	}
	if output != "" {
		return usageError{fmt.Errorf("output %q: want json", output)}
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, head)
	rows(w)
	return w.Flush()
}

func list[T fmt.Stringer](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, ",")
}

func hostsCommand() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use: "hosts", Short: "List the hosts of the lab", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			hosts, err := lab.Hosts(rootContext())
			if err != nil {
				return err
			}
			return table(output, hosts, "NAME\tROLE\tNODE\tADDRESSES", func(w io.Writer) {
				for _, h := range hosts {
					addresses := list(h.Addresses)
					if h.Off {
						addresses += " (off)"
					}
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", h.Name, h.Role, h.Node, addresses)
				}
			})
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "", "json, or a table if empty")
	return command
}

func execCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "exec HOST COMMAND [ARG...]", Short: "Run a command on a host",
		RunE: func(_ *cobra.Command, arguments []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			host, command := arguments[0], arguments[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return usageError{fmt.Errorf("no COMMAND is given")}
			}
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
			defer signal.Stop(signals)
			return lab.Exec(rootContext(), host,
				cluster.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Signals: signals}, command...)
		},
	}
	commandArgs(command, 1)
	return command
}

func logsCommand() *cobra.Command {
	var follow bool
	var output string
	command := &cobra.Command{
		Use: "logs [PROCESS]", Short: "List the processes of the lab, or print a process's log", Args: args(cobra.MaximumNArgs(1)),
		RunE: func(_ *cobra.Command, arguments []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			if len(arguments) == 1 {
				path, err := lab.Logs(rootContext(), arguments[0])
				if err != nil {
					return err
				}
				return printLog(path, follow)
			}
			processes, err := lab.Processes(rootContext())
			if err != nil {
				return err
			}
			return table(output, processes, "NAME\tHOST\tSTATE\tPID\tRESTARTS\tRSS\tLOG", func(w io.Writer) {
				for _, p := range processes {
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d MiB\t%s\n", p.Name, p.Host, p.State, p.PID, p.Restarts, p.RSS>>20, p.Log)
				}
			})
		},
	}
	command.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the log grows")
	command.Flags().StringVarP(&output, "output", "o", "", "json, or a table if empty (for the list)")
	return command
}

// printLog copies a log; following ends only with the program.
func printLog(path string, follow bool) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = file.Close() }()
	for {
		if _, err := io.Copy(os.Stdout, file); err != nil {
			return fmt.Errorf("print log %s: %w", path, err)
		}
		if !follow {
			return nil
		}
		time.Sleep(logPoll)
	}
}
