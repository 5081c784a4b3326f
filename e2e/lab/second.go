package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/e2e/cluster"
)

func secondCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "second", Short: "Start or remove another cluster on the same LAN", Args: args(cobra.NoArgs), RunE: help,
	}
	command.AddCommand(secondAddCommand(), secondDeleteCommand())
	return command
}

func secondAddCommand() *cobra.Command {
	var nodes int
	command := &cobra.Command{
		Use: "add", Short: "Start it and print the variables by which lab and kubectl find it", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			second, err := lab.StartSecond(rootContext(), nodes)
			if err != nil {
				return err
			}
			for _, variable := range [][2]string{
				{cluster.Socket, second.Socket}, {cluster.Logs, second.Logs},
				{clientcmd.RecommendedConfigPathEnvVar, second.Kubeconfig},
			} {
				fmt.Printf("export %s=%q\n", variable[0], variable[1])
			}
			return nil
		},
	}
	command.Flags().IntVar(&nodes, "nodes", 2, "number of its nodes")
	return command
}

func secondDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete", Short: "Remove it with its nodes and pods", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			return lab.DeleteSecond(rootContext())
		},
	}
}
