package speaker

import (
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/plan"
)

// known is what was made of the watched objects and the election's status the last time, for what did not change.
type known struct {
	nodes      []*corev1.Node
	speakers   map[string]election.Info
	interfaces []model.Interface
	unfit      []string
	machines   []plan.Machine

	hold []string
	held map[string]bool

	settled    bool
	vips       []*v1alpha1.VIP
	candidates []plan.Candidacy

	tookPart bool
	bound    []model.Binding
	failed   bool // something did
}

// machines are the nodes, as their heartbeats and Nodes say.
func (s *Speaker) machines(status election.Status) []plan.Machine {
	nodes, k := s.watcher.Nodes(), &s.known
	if k.machines != nil && slices.Equal(nodes, k.nodes) && reflect.DeepEqual(status.Speakers, k.speakers) &&
		reflect.DeepEqual(s.interfaces, k.interfaces) && slices.Equal(s.unfit, k.unfit) {
		return k.machines
	}
	machines := make([]plan.Machine, 0, len(nodes))
	for _, node := range nodes {
		machine := kube.Machine(node)
		if node.Name == s.config.Node {
			machine.Interfaces, machine.Unfit = s.interfaces, s.unfit
		} else if info, alive := status.Speakers[node.Name]; alive {
			machine.Interfaces, machine.Unfit = info.Interfaces, info.Unfit
		}
		machines = append(machines, machine)
	}
	k.nodes, k.speakers, k.interfaces, k.unfit, k.machines = nodes, status.Speakers, s.interfaces, s.unfit, machines
	return machines
}

// held is the set of the VIPs that this node has the right to announce.
func (s *Speaker) held(status election.Status) map[string]bool {
	if k := &s.known; k.held == nil || !slices.Equal(status.Hold, k.hold) {
		k.hold, k.held = status.Hold, make(map[string]bool, len(status.Hold))
		for _, name := range status.Hold {
			k.held[name] = true
		}
	}
	return s.known.held
}

// snapshot is what this node knows, with the VIPs that it holds.
func (s *Speaker) snapshot(vips []*v1alpha1.VIP, machines []plan.Machine, held map[string]bool) plan.Snapshot {
	return plan.Snapshot{
		VIPs: vips, Slices: s.watcher.EndpointSlices, Node: s.config.Node, Machines: machines, Interfaces: s.interfaces, Held: held,
		Down: s.checks.checker.Down(), Had: s.drains.planned, Drained: s.drains.drained, Isolated: s.config.Isolated,
	}
}
