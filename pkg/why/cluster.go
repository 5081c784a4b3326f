// Package why tells people where VIPs are, why they are there, and where they could be: by the same computations by which
// speakers decide it, from what a user of the cluster can read. It computes only, and what it was not given it does not guess.
package why

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/plan"
)

// Facts are what was read of a cluster. What is nil could not be read, and Unread says why.
type Facts struct {
	// VIPs in the order of their names, without claims.
	VIPs  []*v1alpha1.VIP
	Nodes []*corev1.Node
	// Heartbeats by node, Claims by VIP.
	Heartbeats map[string]election.Heartbeat
	Claims     map[string]election.Holding
	// Slices by Service: at least those of Services with externalTrafficPolicy Local.
	Slices map[types.NamespacedName][]*discoveryv1.EndpointSlice
	// Events by VIP.
	Events map[string][]corev1.Event
	// Now by the API server's clock.
	Now    time.Time
	Unread []string
}

// Cluster is what follows from facts.
type Cluster struct {
	facts      Facts
	alive      map[string]bool
	owners     map[string]string // living ones, by VIP
	candidates map[string]plan.Candidacy
	vips       []election.VIP
}

// New finds out who lives, who owns what and who might.
func New(facts Facts) *Cluster {
	c := &Cluster{facts: facts, alive: map[string]bool{}, owners: map[string]string{}, candidates: map[string]plan.Candidacy{}}
	for node, heartbeat := range facts.Heartbeats {
		if _, silent := heartbeat.Silent(facts.Now); heartbeat.Owner.Epoch != "" && !silent {
			c.alive[node] = true
		}
	}
	endpoints := func(service types.NamespacedName) []*discoveryv1.EndpointSlice { return facts.Slices[service] }
	machines := make([]plan.Machine, 0, len(facts.Nodes))
	for _, node := range facts.Nodes {
		machine := kube.Machine(node)
		if c.alive[node.Name] {
			info := facts.Heartbeats[node.Name].Info
			machine.Interfaces, machine.Unfit = info.Interfaces, info.Unfit
		}
		machines = append(machines, machine)
	}
	for _, vip := range facts.VIPs {
		c.own(vip)
		candidacy := plan.Candidates(vip, machines, endpoints)
		c.candidates[vip.Name] = candidacy
		c.vips = append(c.vips, election.VIP{Name: vip.Name, Candidates: candidacy.Nodes, Weights: candidacy.Weights})
	}
	return c
}

// own notes the owner of a VIP: by its claim, as the election goes by it, or by its status where Leases could not be read.
func (c *Cluster) own(vip *v1alpha1.VIP) {
	if c.facts.Heartbeats == nil || c.facts.Claims == nil {
		if vip.Status.Node != "" {
			c.owners[vip.Name] = vip.Status.Node
		}
		return
	}
	owner := c.facts.Claims[vip.Name].Owner
	if c.alive[owner.Node] && c.facts.Heartbeats[owner.Node].Owner == owner {
		c.owners[vip.Name] = owner.Node
	}
}

// VIP is the one of a name, nil if there is none.
func (c *Cluster) VIP(name string) *v1alpha1.VIP {
	i, found := slices.BinarySearchFunc(c.facts.VIPs, name, func(vip *v1alpha1.VIP, name string) int { return cmp.Compare(vip.Name, name) })
	if !found {
		return nil
	}
	return c.facts.VIPs[i]
}

// Owner is the node that holds a VIP, "" if none does.
func (c *Cluster) Owner(vip string) string { return c.owners[vip] }

// errUnread says that it cannot be told who may hold a VIP.
var errUnread = errors.New("who may hold it cannot be told without all Nodes, the speakers' Leases and, for Services with " +
	"externalTrafficPolicy Local, EndpointSlices")

// knows returns an error unless all was read that the candidates of a VIP depend on.
func (c *Cluster) knows(vip *v1alpha1.VIP) error {
	local := slices.ContainsFunc(vip.Spec.Frontends, func(f v1alpha1.Frontend) bool {
		return f.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
	})
	if c.facts.Nodes == nil || c.facts.Heartbeats == nil || local && c.facts.Slices == nil {
		return errUnread
	}
	return nil
}

// stateOf tells what is the matter with the speaker of a node; "" if it lives and nothing is.
func (c *Cluster) stateOf(node string) string {
	heartbeat, known := c.facts.Heartbeats[node]
	since, silent := heartbeat.Silent(c.facts.Now)
	switch {
	case !known:
		return "no speaker runs there"
	case heartbeat.Owner.Epoch == "":
		return fmt.Sprintf("its speaker was revoked by that of node %s, and has not come back: %s", heartbeat.RevokedBy, heartbeat.RevokedFor)
	case silent:
		return fmt.Sprintf("its speaker has not renewed its heartbeat for %s", duration.HumanDuration(c.facts.Now.Sub(since)))
	case heartbeat.Restarts:
		return "its speaker is being replaced, and the others wait for it"
	}
	return ""
}

// whyNot tells why a node may not hold a VIP; "" if it may.
func (c *Cluster) whyNot(vip *v1alpha1.VIP, node string) string {
	candidacy := c.candidates[vip.Name]
	if slices.Contains(candidacy.Nodes, node) {
		return ""
	}
	reason, exists := candidacy.Excluded[node]
	switch {
	case !exists:
		return "there is no such node"
	case !c.alive[node]:
		return c.stateOf(node)
	}
	return reason
}

// Movable returns an error that says why a VIP cannot be handed over to a node now.
func (c *Cluster) Movable(vip *v1alpha1.VIP, node string) error {
	if err := c.knows(vip); err != nil {
		return err
	}
	holder := c.owners[vip.Name]
	pending := vip.Annotations[v1alpha1.AnnotationMoveTo]
	switch {
	case c.whyNot(vip, node) != "":
		return fmt.Errorf("node %s may not hold %s: %s", node, vip.Spec.Address, c.whyNot(vip, node))
	case c.facts.Heartbeats[node].Restarts:
		return fmt.Errorf("node %s cannot take %s now: %s; try again when it is back", node, vip.Spec.Address, c.stateOf(node))
	case holder == "":
		return fmt.Errorf("nobody holds %s, so that nobody can hand it over: see kubectl fairlead why %s", vip.Spec.Address, vip.Spec.Address)
	case pending != "" && pending != node:
		return fmt.Errorf("annotation %s of VIP %s says %s already: wait for whoever set it, or remove it by kubectl annotate vip %s %s-",
			v1alpha1.AnnotationMoveTo, vip.Name, pending, vip.Name, v1alpha1.AnnotationMoveTo)
	}
	return nil
}

// Rebalance lists the fewest moves to an even spread over all nodes, of the VIPs of a pool or, if none is named, of all. VIPs
// that somebody wants on a node stay.
func (c *Cluster) Rebalance(pool string) ([]election.Move, error) {
	vips, found := slices.Clone(c.vips), false
	for node, heartbeat := range c.facts.Heartbeats {
		if c.alive[node] && heartbeat.Restarts {
			return nil, fmt.Errorf("the speaker of node %s is being replaced: its VIPs wait for it; try again when it is back", node)
		}
	}
	for i, vip := range c.facts.VIPs {
		if pool != "" && vip.Spec.Pool != pool || vip.Annotations[v1alpha1.AnnotationMoveTo] != "" {
			vips[i].Candidates = []string{c.owners[vip.Name]}
			continue
		}
		found = true
		if err := c.knows(vip); err != nil {
			return nil, fmt.Errorf("VIP %s: %w", vip.Name, err)
		}
	}
	if pool != "" && !found {
		return nil, fmt.Errorf("no VIP is of IPPool %q: kubectl get vips shows the pools", pool)
	}
	return election.Rebalance(vips, c.owners, c.alive), nil
}
