package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/pkg/why"
)

const whyLong = `Says whether a VIP answers, which node holds it and since when, why it moved there and from which node, who is
next if that node fails, and what speaks against every other node. Beside that: bad conditions, address conflicts,
a move that somebody asked for, speakers that are gone or being replaced, and the last events.

The VIP is named by its address in any notation, by the name of its object or of a claim, or by a Service, of which
all VIPs are told of. It reads VIPs, Nodes, Events, the Leases of speakers and, where a Service has
externalTrafficPolicy Local, EndpointSlices, with your own rights; what you may not read is said, and the rest told.

It ends with 0 if all VIPs asked about are held and healthy, with 1 if one is not (nobody holds it, no backend is
ready, another host uses the address, the Service has none), and with 2 if it cannot tell.`

const whyExample = `  kubectl fairlead why 192.0.2.10
  kubectl fairlead why 2001:db8::10
  kubectl fairlead why shop/web
  kubectl fairlead why shop/web -o json | jq -r '.vips[].excluded[] | .node + ": " + .reason'`

func whyCommand(to *connection) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "why VIP|NAMESPACE/SERVICE",
		Short:   "Explains where a VIP is, why, and where it could be",
		Long:    whyLong,
		Example: whyExample,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" && output != "yaml" {
				return fmt.Errorf("--output=%s: must be json or yaml", output)
			}
			return runWhy(cmd, to, args[0], output)
		},
	}
	to.addFlags(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "", "json or yaml, for programs; empty: text")
	return cmd
}

func runWhy(cmd *cobra.Command, to *connection, arg, output string) error {
	ctx := cmd.Context()
	facts, names, err := to.ask(ctx, arg)
	if err != nil {
		return err
	}
	to.readEvents(ctx, &facts, names)
	cluster, healthy := why.New(facts), true
	var answers []why.Answer
	for _, name := range names {
		answer := cluster.Explain(cluster.VIP(name))
		answers, healthy = append(answers, answer), healthy && answer.Healthy
	}
	if err := write(cmd.OutOrStdout(), answers, output); err != nil {
		return err
	}
	if !healthy {
		return &ended{status: statusBad}
	}
	return nil
}

// write prints answers: as text with an empty line between them, or as an object with them in a list.
func write(w io.Writer, answers []why.Answer, output string) error {
	if output == "" {
		for i, answer := range answers {
			if i > 0 {
				fmt.Fprintln(w)
			}
			if err := answer.Write(w); err != nil {
				return err
			}
		}
		return nil
	}
	text, err := json.MarshalIndent(map[string]any{"vips": answers}, "", "  ")
	if err == nil && output == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	_, err = fmt.Fprintln(w, string(text))
	return err
}
