package speaker

import (
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/plan"
)

// machines are the nodes, as their heartbeats and Nodes say.
func (s *Speaker) machines(status election.Status) []plan.Machine {
	nodes := s.watcher.Nodes()
	machines := make([]plan.Machine, 0, len(nodes))
	for _, node := range nodes {
		machine := plan.Machine{
			Name: node.Name, Labels: node.Labels, Ready: kube.NodeReady(node),
			Addresses: kube.NodeAddresses(node), PodNetworks: kube.PodNetworks(node),
		}
		if node.Name == s.config.Node {
			machine.Interfaces, machine.Unfit = s.interfaces, s.unfit
		} else if info, alive := status.Speakers[node.Name]; alive {
			machine.Interfaces, machine.Unfit = info.Interfaces, info.Unfit
		}
		machines = append(machines, machine)
	}
	return machines
}

// snapshot is what this node knows, with the VIPs that it holds.
func (s *Speaker) snapshot(vips []*v1alpha1.VIP, machines []plan.Machine, held map[string]bool) plan.Snapshot {
	return plan.Snapshot{
		VIPs: vips, Slices: s.watcher.EndpointSlices, Node: s.config.Node, Machines: machines, Interfaces: s.interfaces,
		Held: held, Down: s.checks.down, Had: s.drains.had, Drained: s.drains.drained, Isolated: s.config.Isolated,
	}
}
