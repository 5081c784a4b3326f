package main

import (
	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/cluster"
)

// nodeFaults and clusterFaults are the faults with what they do, in the order of help.
var nodeFaults = []struct {
	kind cluster.FaultKind
	does string
}{
	{cluster.KillSpeaker, "Kill the node's speaker (SIGKILL); it stays dead until start-speaker or heal"},
	{cluster.StopSpeaker, "Stop the node's speaker (SIGTERM); it stays away until start-speaker or heal"},
	{cluster.StartSpeaker, "Start the node's speaker"},
	{cluster.FreezeSpeaker, "Freeze the node's speaker (SIGSTOP), until thaw-speaker or heal"},
	{cluster.ThawSpeaker, "Let a frozen speaker go on"},
	{cluster.RestartKubeProxy, "Stop the node's kube-proxy (SIGTERM) and start it again"},
	{cluster.StopKubeProxy, "Stop the node's kube-proxy (SIGTERM); it stays away until start-kube-proxy or heal"},
	{cluster.StartKubeProxy, "Start the node's kube-proxy"},
	{cluster.PowerOff, "Take the node's links down, kill all on it and forget its kernel's state"},
	{cluster.PowerOn, "Boot the node again, with its processes and pods"},
	{cluster.CutAPI, "Drop what goes between the node and the API server"},
	{cluster.CutLAN, "Keep the node from all hosts of the LAN, but not from the API server"},
	{cluster.CutSending, "Keep what the node sends from all hosts of the LAN"},
	{cluster.CutReceiving, "Keep what all hosts of the LAN send from the node"},
	{cluster.CutCarrier, "Take the carrier of the node's interface away, and with it the API server"},
	{cluster.Heal, "End every fault of the node"},
}

var clusterFaults = []struct {
	kind cluster.FaultKind
	does string
}{
	{cluster.APIDown, "Kill the API server"},
	{cluster.APIUp, "Start the API server and wait until it is ready"},
	{cluster.SlowStore, "Make every write of the API server take up to 2 s"},
	{cluster.QuickStore, "End slow-store"},
	{cluster.KillController, "Kill the controller replica that leads"},
	{cluster.StartController, "Start the controller replicas that do not run"},
}

func faultCommand() *cobra.Command {
	command := &cobra.Command{Use: "fault", Short: "Inject a fault, or end one", Args: args(cobra.NoArgs), RunE: help}
	for _, f := range nodeFaults {
		command.AddCommand(faultKindCommand(f.kind, string(f.kind)+" NODE", f.does, cobra.ExactArgs(1)))
	}
	for _, f := range clusterFaults {
		command.AddCommand(faultKindCommand(f.kind, string(f.kind), f.does, cobra.NoArgs))
	}
	return command
}

func faultKindCommand(kind cluster.FaultKind, use, does string, check cobra.PositionalArgs) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: does, Args: args(check),
		RunE: func(_ *cobra.Command, arguments []string) error {
			lab, err := cluster.NewLab()
			if err != nil {
				return err
			}
			return lab.Fault(rootContext(), kind, append(arguments, "")[0])
		},
	}
}
