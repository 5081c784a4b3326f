package plan

import (
	"reflect"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// candidacies are who may hold which VIP.
type candidacies struct {
	machines []Machine
	vips     []*v1alpha1.VIP // as they are in known
	known    []*candidacy
	found    []Candidacy // what is known
}

// candidacy is who may hold a VIP, with the endpoints that this was found from.
type candidacy struct {
	vip    *v1alpha1.VIP
	slices []answer[types.NamespacedName, []*discoveryv1.EndpointSlice]
	found  Candidacy
}

// Candidates lists, for each VIP, the machines that may hold it, as the function of this name does. A list in which nothing
// changed is the very one of the last time.
func (p *Planner) Candidates(vips []*v1alpha1.VIP, machines []Machine, endpoints func(types.NamespacedName) []*discoveryv1.EndpointSlice) []Candidacy {
	c := &p.candidacies
	moved := !sameMachines(c.machines, machines)
	c.machines = machines
	changed := !sameNames(c.vips, vips)
	if changed {
		c.known = lineUp(c.vips, c.known, vips)
	}
	c.vips = vips
	for i, vip := range vips {
		known := c.known[i]
		if known != nil && !moved && sameSpec(known.vip, vip) && known.holds(endpoints) {
			known.vip = vip
			continue
		}
		c.known[i] = findCandidates(vip, machines, endpoints)
		changed = changed || known == nil || !reflect.DeepEqual(known.found, c.known[i].found)
	}
	if changed {
		c.found = make([]Candidacy, len(c.known))
		for i, known := range c.known {
			c.found[i] = known.found
		}
	}
	return c.found
}

// findCandidates lists the machines that may hold a VIP and notes what was asked.
func findCandidates(vip *v1alpha1.VIP, machines []Machine, endpoints func(types.NamespacedName) []*discoveryv1.EndpointSlice) *candidacy {
	c := &candidacy{vip: vip}
	c.found = Candidates(vip, machines, func(service types.NamespacedName) []*discoveryv1.EndpointSlice {
		all := endpoints(service)
		c.slices = append(c.slices, answer[types.NamespacedName, []*discoveryv1.EndpointSlice]{service, all})
		return all
	})
	return c
}

func (c *candidacy) holds(endpoints func(types.NamespacedName) []*discoveryv1.EndpointSlice) bool {
	for i := range c.slices {
		if a := &c.slices[i]; !sameSlices(endpoints(a.question), a.answer) {
			return false
		}
	}
	return true
}
