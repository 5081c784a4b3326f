package why

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
)

// Answer is what there is to say of one VIP.
type Answer struct {
	VIP     string `json:"vip"`
	Address string `json:"address"`
	// Healthy says that a node holds it, a backend is ready, and no other host uses the address.
	Healthy bool   `json:"healthy"`
	Summary string `json:"summary"`

	Services []string `json:"services,omitempty"`
	Pool     string   `json:"pool,omitempty"`
	Backends string   `json:"backends,omitempty"` // ready/all
	// Problems are conditions that are bad.
	Problems []Problem `json:"problems,omitempty"`

	Node      string       `json:"node,omitempty"`
	Interface string       `json:"interface,omitempty"`
	Since     *metav1.Time `json:"since,omitempty"`
	Moved     *Moved       `json:"moved,omitempty"`
	MoveTo    *MoveTo      `json:"moveTo,omitempty"`

	// Next are the nodes that may hold it, the holder apart, in the order in which they would take it over.
	Next []Candidate `json:"next,omitempty"`
	// Preferred are the weights of nodes.
	Preferred map[string]int `json:"preferred,omitempty"`
	// Excluded are the other nodes, with the reason of each.
	Excluded []Exclusion `json:"excluded,omitempty"`
	// Speakers are those with which something is the matter.
	Speakers []Exclusion `json:"speakers,omitempty"`

	Events []Event  `json:"events,omitempty"`
	Unread []string `json:"unread,omitempty"`

	now metav1.Time
}

// Problem is a condition that is bad.
type Problem struct {
	Condition string      `json:"condition"`
	Reason    string      `json:"reason"`
	Message   string      `json:"message"`
	Since     metav1.Time `json:"since"`
}

// Moved is the last move.
type Moved struct {
	At     *metav1.Time `json:"at,omitempty"`
	From   string       `json:"from,omitempty"`
	To     string       `json:"to"`
	Reason string       `json:"reason,omitempty"`
}

// MoveTo is where somebody wants the VIP; Refused is why it does not go there.
type MoveTo struct {
	Node    string `json:"node"`
	Refused string `json:"refused,omitempty"`
}

// Candidate is a node that may hold the VIP, though something may speak against it.
type Candidate struct {
	Node    string `json:"node"`
	Against string `json:"against,omitempty"`
}

// Exclusion is a node with a reason.
type Exclusion struct {
	Node   string `json:"node"`
	Reason string `json:"reason"`
}

// Event of the VIP.
type Event struct {
	At      metav1.Time `json:"at"`
	Type    string      `json:"type"`
	Reason  string      `json:"reason"`
	Message string      `json:"message"`
	Count   int32       `json:"count"`
}

// lastEvents is how many events an answer has.
const lastEvents = 5

// Explain says all there is to say of a VIP.
func (c *Cluster) Explain(vip *v1alpha1.VIP) Answer {
	a := Answer{
		VIP: vip.Name, Address: vip.Spec.Address, Pool: vip.Spec.Pool, Backends: vip.Status.Backends,
		Node: c.owners[vip.Name], Problems: problems(vip), Services: services(vip),
		Events: events(c.facts.Events[vip.Name]), Unread: c.facts.Unread, now: metav1.NewTime(c.facts.Now),
	}
	if a.Node != "" && a.Node == vip.Status.Node {
		a.Interface, a.Since = vip.Status.Interface, vip.Status.Since
	}
	if claim, known := c.facts.Claims[vip.Name]; known && claim.Owner.Node != "" {
		a.Moved = &Moved{From: claim.Previous, To: claim.Owner.Node, Reason: claim.Reason}
		if !claim.Since.IsZero() {
			a.Moved.At = &metav1.Time{Time: claim.Since}
		}
	}
	if c.knows(vip) == nil {
		c.candidacy(&a, vip)
	}
	if c.facts.Heartbeats != nil {
		for _, node := range slices.Sorted(maps.Keys(c.facts.Heartbeats)) {
			if state := c.stateOf(node); state != "" {
				a.Speakers = append(a.Speakers, Exclusion{node, state})
			}
		}
	}
	a.Healthy, a.Summary = c.summary(vip)
	return a
}

// candidacy fills in who may hold a VIP and who may not.
func (c *Cluster) candidacy(a *Answer, vip *v1alpha1.VIP) {
	candidacy := c.candidates[vip.Name]
	for _, node := range election.Order(c.vips, c.owners, c.alive, vip.Name) {
		against := candidacy.Excluded[node]
		if against == "" && c.facts.Heartbeats[node].Restarts {
			against = c.stateOf(node)
		}
		a.Next = append(a.Next, Candidate{node, against})
	}
	for _, node := range slices.Sorted(maps.Keys(candidacy.Excluded)) {
		if reason := c.whyNot(vip, node); reason != "" {
			a.Excluded = append(a.Excluded, Exclusion{node, reason})
		}
	}
	a.Preferred = candidacy.Weights
	if node := vip.Annotations[v1alpha1.AnnotationMoveTo]; node != "" {
		a.MoveTo = &MoveTo{Node: node, Refused: c.whyNot(vip, node)}
	}
}

// summary says in a sentence whether a VIP answers.
func (c *Cluster) summary(vip *v1alpha1.VIP) (healthy bool, text string) {
	addr, node := vip.Spec.Address, c.owners[vip.Name]
	conflict := meta.IsStatusConditionTrue(vip.Status.Conditions, v1alpha1.VIPConflict)
	var ready, all int
	_, err := fmt.Sscanf(vip.Status.Backends, "%d/%d", &ready, &all)
	switch {
	case node == "" && vip.Status.Node != "" && c.stateOf(vip.Status.Node) != "":
		return false, fmt.Sprintf("%s does not answer: no node holds it. Node %s did, and %s.", addr, vip.Status.Node, c.stateOf(vip.Status.Node))
	case node == "":
		return false, addr + " does not answer: no node holds it."
	case meta.IsStatusConditionFalse(vip.Status.Conditions, v1alpha1.VIPHeld) && conflict:
		return false, fmt.Sprintf("%s does not answer: node %s has the claim and does not announce it, "+
			"because another host uses the address.", addr, node)
	case vip.Status.Node == "":
		return false, fmt.Sprintf("%s does not answer yet: node %s has the claim, and has not said that it announces it.", addr, node)
	case conflict:
		return false, fmt.Sprintf("%s does not answer everybody: node %s holds it, and another host uses the address too.", addr, node)
	case err != nil || all == 0:
		return false, fmt.Sprintf("%s does not answer: node %s holds it, and it has no backends.", addr, node)
	case ready == 0:
		return false, fmt.Sprintf("%s does not answer: node %s holds it, and none of its %d backends is ready.", addr, node, all)
	}
	return true, fmt.Sprintf("%s answers: node %s holds it, and %d of %d backends are ready.", addr, node, ready, all)
}

func problems(vip *v1alpha1.VIP) (out []Problem) {
	for _, condition := range vip.Status.Conditions {
		bad := metav1.ConditionFalse
		if condition.Type == v1alpha1.VIPConflict {
			bad = metav1.ConditionTrue
		}
		if condition.Status == bad {
			out = append(out, Problem{condition.Type, condition.Reason, condition.Message, condition.LastTransitionTime})
		}
	}
	return out
}

func services(vip *v1alpha1.VIP) (out []string) {
	for _, frontend := range vip.Spec.Frontends {
		out = append(out, frontend.Service.Namespace+"/"+frontend.Service.Name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// events are the last ones, the oldest first.
func events(all []corev1.Event) []Event {
	out := make([]Event, 0, len(all))
	for _, event := range all {
		at := event.LastTimestamp
		if at.IsZero() {
			at = metav1.NewTime(cmp.Or(event.EventTime.Time, event.CreationTimestamp.Time))
		}
		out = append(out, Event{at, event.Type, event.Reason, strings.TrimSpace(event.Message), max(event.Count, 1)})
	}
	slices.SortStableFunc(out, func(a, b Event) int { return a.At.Compare(b.At.Time) })
	return out[max(0, len(out)-lastEvents):]
}
