package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/agent"
	"github.com/fairlead/fairlead/e2e/lab/load"
	"github.com/fairlead/fairlead/e2e/lab/probe"
	"github.com/fairlead/fairlead/e2e/lab/scan"
	"github.com/fairlead/fairlead/e2e/lab/serve"
	"github.com/fairlead/fairlead/e2e/lab/talk"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// untilTerminated is a context that SIGTERM and SIGINT end.
func untilTerminated() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(rootContext(), syscall.SIGTERM, syscall.SIGINT)
}

func serveCommand() *cobra.Command {
	var name string
	var texts []string
	command := &cobra.Command{
		Use: "serve --name NAME --listen PROTOCOL:PORT", Short: "Answer with a name and the peer's address, as a pod",
		Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			listens, err := serve.ParseListens(texts)
			if err != nil {
				return usageError{err}
			}
			ctx, stop := untilTerminated()
			defer stop()
			return serve.Run(ctx, name, listens, func() { fmt.Println("serving", listens) })
		},
	}
	command.Flags().StringVar(&name, "name", "server", "name to answer with")
	command.Flags().StringArrayVar(&texts, "listen", []string{"http:8080"}, "PROTOCOL:PORT of http, grpc, tcp, udp, sctp or chargen (repeatable)")
	return command
}

func probeCommand() *cobra.Command {
	var options probe.Options
	var fresh bool
	command := &cobra.Command{
		Use:   "probe [flags] URL...",
		Short: "Ask URLs at a steady pace and print JSON lines when they stop and start to answer, and at the end",
		Long: "Asks each URL (http, https, tcp, udp, sctp) at a steady pace until --for, --count, SIGTERM or SIGINT. Prints a JSON\n" +
			"line whenever a URL begins or ceases to answer and a summary line per URL at the end. Exits with 1 if one never did.",
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, urls []string) error {
			ctx, stop := untilTerminated()
			defer stop()
			options.Keep = !fresh
			answered, err := probe.Run(ctx, options, urls, os.Stdout)
			if err != nil {
				return usageError{err}
			}
			if !answered {
				return statusError(1)
			}
			return nil
		},
	}
	flags := command.Flags()
	flags.DurationVar(&options.Every, "every", cluster.ProbeEvery, "time from one request to the next")
	flags.DurationVar(&options.Timeout, "timeout", cluster.ProbeTimeout, "time a request may take")
	flags.DurationVar(&options.For, "for", 0, "end after this time")
	flags.IntVar(&options.Count, "count", 0, "end after this many requests")
	flags.BoolVar(&options.UntilAnswer, "until-answer", false, "end once every URL has answered")
	flags.BoolVar(&fresh, "fresh", true, "make a new connection for each request")
	return command
}

func talkCommand() *cobra.Command {
	var from uint16
	command := &cobra.Command{
		Use: "talk [flags] URL", Short: "Keep a connection, say there what standard input says and print each answer",
		Long: "Connects by tcp, udp or sctp to a server of lab serve, prints its line, and for each line of standard input says it and\n" +
			"prints the answer, on the same connection. Exits with 1 when the connection breaks or stays silent for a minute.",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, arguments []string) error {
			target, err := talk.ParseTarget(arguments[0])
			if err != nil {
				return usageError{err}
			}
			ctx, stop := untilTerminated()
			defer stop()
			return talk.Run(ctx, target, from, os.Stdin, os.Stdout)
		},
	}
	command.Flags().Uint16Var(&from, "from", 0, "port to connect from, any if 0")
	return command
}

func loadCommand() *cobra.Command {
	var options load.Options
	var measure string
	command := &cobra.Command{
		Use: "load [flags] ADDRESS:PORT...", Short: "Ask servers in the lab as fast as they answer and print JSON lines of how fast that is",
		Long: "Loads each target in turn, round after round, and prints a JSON line for each. Targets are servers of lab serve: tcp\n" +
			"ones for connect and request, udp ones for datagram, chargen ones for transfer.",
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(_ *cobra.Command, texts []string) error {
			options.Measure = load.Measure(measure)
			var targets []netip.AddrPort
			for _, text := range texts {
				target, err := netip.ParseAddrPort(text)
				if err != nil {
					return usageError{fmt.Errorf("target %q: want ADDRESS:PORT: %w", text, err)}
				}
				targets = append(targets, target)
			}
			if err := options.Validate(targets); err != nil {
				return usageError{err}
			}
			ctx, stop := untilTerminated()
			defer stop()
			return load.Run(ctx, options, targets, os.Stdout)
		},
	}
	flags := command.Flags()
	flags.StringVar(&measure, "measure", string(load.Connect), "connect, request, datagram, transfer, flow or hold")
	flags.IntVar(&options.Connections, "connections", 8, "how many at once")
	flags.DurationVar(&options.For, "for", time.Second, "how long each target is loaded in a round")
	flags.IntVar(&options.Rounds, "rounds", 1, "how often all targets are loaded")
	return command
}

func scanCommand() *cobra.Command {
	var options scan.Options
	var ports string
	command := &cobra.Command{
		Use: "scan [flags] ADDRESS", Short: "Ask ports of an address whether something answers and print a JSON line",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, arguments []string) error {
			addr, err := netip.ParseAddr(arguments[0])
			if err != nil {
				return usageError{err}
			}
			if options.Ports, err = scan.ParseRanges(ports); err != nil {
				return usageError{err}
			}
			ctx, stop := untilTerminated()
			defer stop()
			result, err := scan.Run(ctx, addr, options)
			if err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(result)
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.Protocol, "protocol", "tcp", "tcp or udp")
	flags.StringVar(&ports, "ports", "1-65535", "ports, such as 22,80,30000-32767")
	flags.DurationVar(&options.Timeout, "timeout", 900*time.Millisecond, "time a port may take")
	flags.IntVar(&options.AtOnce, "at-once", 3500, "ports that are asked at the same time")
	return command
}

func agentCommand() *cobra.Command {
	var initial bool
	var config agent.Config
	var families string
	command := &cobra.Command{
		Use: "agent", Short: "Serve the fabric's hosts to the driver", Hidden: true, Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			var err error
			if config.Families, err = topology.ParseFamilies(families); err != nil {
				return usageError{err}
			}
			if initial {
				return agent.Init([]string{"agent", "--families", families, "--uplink", config.Uplink, "--prefix", config.Prefix})
			}
			ctx, stop := untilTerminated()
			defer stop()
			return agent.Run(ctx, config)
		},
	}
	flags := command.Flags()
	flags.BoolVar(&initial, "init", false, "be a guest's first process")
	flags.StringVar(&config.Uplink, "uplink", "", "interface toward the control plane")
	flags.StringVar(&config.Prefix, "prefix", "", "what the names of network namespaces begin with")
	flags.StringVar(&families, "families", "dual", "address families")
	return command
}
