package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/cluster"
)

func podCommand() *cobra.Command {
	command := &cobra.Command{Use: "pod", Short: "Add, list, change and delete pods", Args: args(cobra.NoArgs), RunE: help}
	command.AddCommand(podAddCommand(), podReadyCommand(), podTerminateCommand(), podDeleteCommand(), podListCommand())
	return command
}

func podAddCommand() *cobra.Command {
	var pod cluster.Pod
	var labels []string
	command := &cobra.Command{
		Use: "add NAME --node NODE", Short: "Make a pod with a server in it", Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, arguments []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			pod.Name = arguments[0]
			if pod.Labels, err = parseLabels(labels); err != nil {
				return usageError{err}
			}
			added, err := lab.AddPod(rootContext(), pod)
			if err != nil {
				return err
			}
			fmt.Printf("pod %s on %s: %s\n", added.Name, added.Node, list(added.Addresses))
			return nil
		},
	}
	flags := command.Flags()
	flags.StringVar(&pod.Node, "node", "", "node it runs on (required)")
	flags.StringVarP(&pod.Namespace, "namespace", "n", "default", "Kubernetes namespace")
	flags.StringArrayVar(&labels, "label", nil, "KEY=VALUE (repeatable)")
	flags.StringArrayVar(&pod.Listen, "listen", []string{"http:8080"}, "PROTOCOL:PORT of http, grpc, tcp, udp or sctp (repeatable)")
	return command
}

// parseLabels reads KEY=VALUE texts.
func parseLabels(texts []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, text := range texts {
		key, value, ok := strings.Cut(text, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("label %q: want KEY=VALUE", text)
		}
		labels[key] = value
	}
	return labels, nil
}

func podReadyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ready NAME true|false", Short: "Set the Ready condition of a pod", Args: args(cobra.ExactArgs(2)),
		RunE: func(_ *cobra.Command, arguments []string) error {
			ready, err := strconv.ParseBool(arguments[1])
			if err != nil {
				return usageError{fmt.Errorf("ready %q: want true or false", arguments[1])}
			}
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			return lab.SetPodReady(rootContext(), arguments[0], ready)
		},
	}
}

func podTerminateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "terminate NAME", Short: "Begin a pod's end; its server goes on until delete", Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, arguments []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			return lab.TerminatePod(rootContext(), arguments[0])
		},
	}
}

func podDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a pod and its server", Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, arguments []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			return lab.DeletePod(rootContext(), arguments[0])
		},
	}
}

func podListCommand() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use: "list", Short: "List the pods", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			pods, err := lab.Pods(rootContext())
			if err != nil {
				return err
			}
			return table(output, pods, "NAMESPACE\tNAME\tNODE\tREADY\tLISTEN\tADDRESSES", func(w io.Writer) {
				for _, p := range pods {
					_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%t\t%s\t%s\n",
						p.Namespace, p.Name, p.Node, p.Ready, strings.Join(p.Listen, ","), list(p.Addresses))
				}
			})
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "", "json, or a table if empty")
	return command
}
