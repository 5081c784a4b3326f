package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// Machine is a node as far as it matters to who may hold a VIP, and to who may be its backend.
type Machine struct {
	Name   string
	Labels map[string]string
	// Addresses of the node, of both families, those to be preferred first.
	Addresses []netip.Addr
	// PodNetworks of the node, where Kubernetes gives pods their addresses.
	PodNetworks []netip.Prefix
	// Ready is the node's condition.
	Ready bool
	// Cordoned is whether no new pods are put there: before it is drained, mostly.
	Cordoned bool
	// Interfaces that its speaker reported, nil where no speaker reports.
	Interfaces []model.Interface
	// Unfit names the VIPs that the node failed to program.
	Unfit []string
}

// Candidacy tells which machines may hold a VIP, and why the others may not.
type Candidacy struct {
	Nodes    []string
	Excluded map[string]string
	// Weights of those that are preferred.
	Weights map[string]int
}

// String explains why there is no candidate.
func (c Candidacy) String() string {
	names := make([]string, 0, len(c.Excluded))
	for name := range c.Excluded {
		names = append(names, name)
	}
	slices.Sort(names)
	lines := make([]string, 0, len(names))
	for _, name := range names {
		lines = append(lines, name+": "+c.Excluded[name])
	}
	return strings.Join(lines, "; ")
}

// labelExclude keeps a node out of every external load balancer (KEP-1143).
const labelExclude = "node.kubernetes.io/exclude-from-external-load-balancers"

// Candidates lists the machines that may hold a VIP. Machines that are cordoned or in maintenance, and those that are not
// Ready, count only if no other does: their speakers live, and a VIP on such a node is better than none. A Service with
// externalTrafficPolicy Local wants its VIP where it has pods.
func Candidates(vip *v1alpha1.VIP, machines []Machine, endpoints func(types.NamespacedName) []*discoveryv1.EndpointSlice) Candidacy {
	out := Candidacy{Excluded: map[string]string{}}
	local := localServices(vip, endpoints)
	var ready, spare, unready []string
	for _, machine := range machines {
		if reason := excluded(vip, machine); reason != "" {
			out.Excluded[machine.Name] = reason
		} else if service := lacksPods(local, machine.Name); service != "" {
			out.Excluded[machine.Name] = "no ready pod of Service " + service + " runs there (externalTrafficPolicy Local)"
		} else if !machine.Ready {
			unready = append(unready, machine.Name)
			out.Excluded[machine.Name] = "the node is not Ready"
		} else if reason := emptied(machine); reason != "" {
			spare = append(spare, machine.Name)
			out.Excluded[machine.Name] = reason
		} else {
			ready = append(ready, machine.Name)
		}
	}
	for _, out.Nodes = range [][]string{ready, spare, unready} {
		if len(out.Nodes) > 0 {
			break
		}
	}
	slices.Sort(out.Nodes)
	out.Weights = weights(vip, machines)
	return out
}

// emptied tells why a node is to be empty, if it is.
func emptied(machine Machine) string {
	if _, maintained := machine.Labels[v1alpha1.LabelMaintenance]; maintained {
		return "label " + v1alpha1.LabelMaintenance
	}
	if machine.Cordoned {
		return "the node is cordoned"
	}
	return ""
}

// weights of the machines that are preferred for a VIP; nil if none is. Selectors that cannot be read prefer nobody: a node
// that holds a VIP is more than one that is liked.
func weights(vip *v1alpha1.VIP, machines []Machine) map[string]int {
	var out map[string]int
	for _, preferred := range vip.Spec.PreferredNodes {
		selector, err := metav1.LabelSelectorAsSelector(&preferred.NodeSelector)
		if err != nil {
			continue
		}
		for _, machine := range machines {
			if !selector.Matches(labels.Set(machine.Labels)) {
				continue
			}
			if out == nil {
				out = map[string]int{}
			}
			out[machine.Name] += int(preferred.Weight)
		}
	}
	return out
}

func excluded(vip *v1alpha1.VIP, machine Machine) string {
	if machine.Interfaces == nil {
		return "no speaker runs there"
	}
	if _, excluded := machine.Labels[labelExclude]; excluded {
		return "label " + labelExclude
	}
	if selector := vip.Spec.NodeSelector; selector != nil {
		parsed, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			return fmt.Sprintf("spec.nodeSelector of IPPool %s cannot be read: %v", vip.Spec.Pool, err)
		}
		if !parsed.Matches(labels.Set(machine.Labels)) {
			return fmt.Sprintf("spec.nodeSelector of IPPool %s does not match its labels", vip.Spec.Pool)
		}
	}
	if slices.Contains(machine.Unfit, vip.Name) {
		return "its speaker could not program the VIP: see the events of the VIP"
	}
	addr, err := netip.ParseAddr(vip.Spec.Address)
	if err != nil {
		return fmt.Sprintf("%q is not an address", vip.Spec.Address)
	}
	if _, err := Interface(machine.Interfaces, addr, vip.Spec.Interfaces); err != nil {
		return err.Error()
	}
	return ""
}

// NoInterfaceError says that a node has no interface for a VIP.
type NoInterfaceError struct {
	VIP     netip.Addr
	Allowed []string
	Have    []model.Interface
}

func (e *NoInterfaceError) Error() string {
	have := make([]string, 0, len(e.Have))
	for _, candidate := range e.Have {
		have = append(have, fmt.Sprintf("%s %v", candidate.Name, candidate.Prefixes))
	}
	if len(e.Allowed) > 0 {
		return fmt.Sprintf("none of the interfaces %s that the pool names is up (the node has %s)",
			strings.Join(e.Allowed, ", "), strings.Join(have, ", "))
	}
	return fmt.Sprintf("no interface is in the network of %s (the node has %s): give the node an address there, "+
		"or name an interface in spec.interfaces of the pool", e.VIP, strings.Join(have, ", "))
}

// Interface picks the interface for a VIP: the first of allowed that there is, or, if none is named, the one with the
// longest prefix that contains the VIP.
func Interface(interfaces []model.Interface, vip netip.Addr, allowed []string) (string, error) {
	for _, name := range allowed {
		if slices.ContainsFunc(interfaces, func(i model.Interface) bool { return i.Name == name }) {
			return name, nil
		}
	}
	best, bits := "", -1
	if len(allowed) == 0 {
		for _, candidate := range interfaces {
			for _, prefix := range candidate.Prefixes {
				if prefix.Contains(vip) && prefix.Bits() > bits {
					best, bits = candidate.Name, prefix.Bits()
				}
			}
		}
	}
	if best == "" {
		return "", &NoInterfaceError{VIP: vip, Allowed: allowed, Have: interfaces}
	}
	return best, nil
}
