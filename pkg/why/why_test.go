package why

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/model"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func before(ago time.Duration) time.Time { return now.Add(-ago) }

func at(ago time.Duration) *metav1.Time { return &metav1.Time{Time: before(ago)} }

func node(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}
}

func alive(name string) election.Heartbeat {
	return election.Heartbeat{
		Owner: election.Owner{Node: name, Epoch: "e"}, Renewed: before(time.Second), Lasts: 4 * time.Second,
		Info: election.Info{Interfaces: []model.Interface{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}},
	}
}

// scene is a VIP on n2, which took it from n1, in a cluster of five nodes of which two may have it besides.
func scene() Facts {
	vip := &v1alpha1.VIP{
		ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.10"},
		Spec: v1alpha1.VIPSpec{
			Address: "192.0.2.10", Pool: "lan",
			Frontends: []v1alpha1.Frontend{
				{Port: 80, Protocol: corev1.ProtocolTCP, Service: v1alpha1.ServiceReference{Namespace: "shop", Name: "web"}},
				{Port: 443, Protocol: corev1.ProtocolTCP, Service: v1alpha1.ServiceReference{Namespace: "shop", Name: "web"}},
			},
			PreferredNodes: []v1alpha1.PreferredNodes{{Weight: 10, NodeSelector: metav1.LabelSelector{
				MatchLabels: map[string]string{"kubernetes.io/hostname": "n3"}}}},
		},
		Status: v1alpha1.VIPStatus{
			Node: "n2", Interface: "eth0", Since: at(8 * time.Minute), Backends: "3/3",
			Conditions: []metav1.Condition{{Type: v1alpha1.VIPHeld, Status: metav1.ConditionTrue, Reason: v1alpha1.VIPReasonAnnounced}},
		},
	}
	facts := Facts{
		VIPs: []*v1alpha1.VIP{vip}, Now: now, Slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{},
		Heartbeats: map[string]election.Heartbeat{"n2": alive("n2"), "n3": alive("n3"), "n4": alive("n4")},
		Claims: map[string]election.Holding{"192.0.2.10": {Owner: election.Owner{Node: "n2", Epoch: "e"}, Since: before(8 * time.Minute),
			Previous: "n1", Reason: "node n1 answers nobody"}},
		Events: map[string][]corev1.Event{"192.0.2.10": {{
			LastTimestamp: *at(8 * time.Minute), Type: "Normal", Reason: "Announced", Message: "node n2 announces it on eth0", Count: 1,
		}}},
	}
	for _, name := range []string{"n1", "n2", "n3", "n4", "n5"} {
		facts.Nodes = append(facts.Nodes, node(name))
	}
	facts.Nodes[3].Spec.Unschedulable = true
	facts.Heartbeats["n1"] = election.Heartbeat{Owner: election.Owner{Node: "n1"}, RevokedBy: "n2", RevokedFor: "node n1 answers nobody"}
	return facts
}

func told(t *testing.T, answer Answer) string {
	t.Helper()
	var out strings.Builder
	if err := answer.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const wantHeld = `192.0.2.10 answers: node n2 holds it, and 3 of 3 backends are ready.

Services:   shop/web
Pool:       lan
Backends:   3/3 ready
Held by:    n2 on eth0, for 8m
Moved:      from n1 to n2, 8m ago: node n1 answers nobody
Next:       n3
Preferred:  n3 (weight 10)
Not on:     n1: its speaker was revoked by that of node n2, and has not come back: node n1 answers nobody
            n4: the node is cordoned
            n5: no speaker runs there
Events:     8m ago  Announced: node n2 announces it on eth0
`

const wantConflict = `192.0.2.10 does not answer everybody: node n2 holds it, and another host uses the address too.

Problems:   AddressConflict, for 5s: 02:00:00:00:00:99 has it
Services:   shop/web
Pool:       lan
Backends:   3/3 ready
Held by:    n2 on eth0, for 8m
Moved:      from n1 to n2, 8m ago: node n1 answers nobody
Move to:    n3, to which its holder is to hand it over
Next:       n3 (its speaker is being replaced, and the others wait for it)
Preferred:  n3 (weight 10)
Not on:     n1: its speaker was revoked by that of node n2, and has not come back: node n1 answers nobody
            n4: the node is cordoned
            n5: no speaker runs there
Speakers:   n3: its speaker is being replaced, and the others wait for it
Events:     8m ago  Announced: node n2 announces it on eth0
`

const wantAlone = `192.0.2.10 does not answer: no node holds it. Node n2 did, and its speaker has not renewed its heartbeat for 20s.

Services:   shop/web
Pool:       lan
Backends:   3/3 ready
Held by:    nobody
Moved:      from n1 to n2, 8m ago: node n1 answers nobody
To take it: n4 (the node is cordoned)
`

const wantUnread = `192.0.2.10 answers: node n2 holds it, and 3 of 3 backends are ready.

Services:   shop/web
Pool:       lan
Backends:   3/3 ready
Held by:    n2 on eth0, for 8m
Events:     8m ago  Announced: node n2 announces it on eth0
Not read:   leases is forbidden
`

func TestAnswers(t *testing.T) {
	for _, tc := range []struct {
		name    string
		change  func(*Facts)
		healthy bool
		want    string // the text, or its beginning
		whole   bool
	}{
		{name: "a VIP that answers", change: func(*Facts) {}, healthy: true, want: wantHeld, whole: true},
		{name: "a conflict, a move under way, a speaker that restarts", want: wantConflict, whole: true, change: func(f *Facts) {
			f.VIPs[0].Annotations = map[string]string{v1alpha1.AnnotationMoveTo: "n3"}
			f.VIPs[0].Status.Conditions = append(f.VIPs[0].Status.Conditions, metav1.Condition{Type: v1alpha1.VIPConflict,
				Status: metav1.ConditionTrue, Reason: v1alpha1.VIPReasonConflict, Message: "02:00:00:00:00:99 has it", LastTransitionTime: *at(5 * time.Second)})
			heartbeat := f.Heartbeats["n3"]
			heartbeat.Restarts = true
			f.Heartbeats["n3"] = heartbeat
		}},
		{name: "the holder is silent, and the node that is left is cordoned", want: wantAlone, change: func(f *Facts) {
			heartbeat := f.Heartbeats["n2"]
			heartbeat.Renewed = before(20 * time.Second)
			f.Heartbeats["n2"] = heartbeat
			delete(f.Heartbeats, "n3")
		}},
		{name: "Leases cannot be read", healthy: true, want: wantUnread, whole: true, change: func(f *Facts) {
			f.Heartbeats, f.Claims, f.Unread = nil, nil, []string{"leases is forbidden"}
		}},
		{name: "a claim of an epoch that is over", want: "192.0.2.10 does not answer: no node holds it.\n", change: func(f *Facts) {
			f.Claims["192.0.2.10"] = election.Holding{Owner: election.Owner{Node: "n2", Epoch: "before"}}
		}},
		{name: "no backend is ready", want: "192.0.2.10 does not answer: node n2 holds it, and none of its 2 backends is ready.",
			change: func(f *Facts) { f.VIPs[0].Status.Backends = "0/2" }},
		{name: "no backends", want: "192.0.2.10 does not answer: node n2 holds it, and it has no backends.",
			change: func(f *Facts) { f.VIPs[0].Status.Backends = "" }},
		{name: "a host had it first", want: "192.0.2.10 does not answer: node n2 has the claim and does not announce it", change: func(f *Facts) {
			f.VIPs[0].Status = v1alpha1.VIPStatus{Conditions: []metav1.Condition{
				{Type: v1alpha1.VIPHeld, Status: metav1.ConditionFalse, Reason: v1alpha1.VIPReasonConflict},
				{Type: v1alpha1.VIPConflict, Status: metav1.ConditionTrue, Reason: v1alpha1.VIPReasonConflict}}}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			facts := scene()
			tc.change(&facts)
			answer := New(facts).Explain(facts.VIPs[0])
			got := told(t, answer)
			if !tc.whole {
				got = got[:min(len(got), len(tc.want))]
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if answer.Healthy != tc.healthy {
				t.Errorf("healthy: %v", answer.Healthy)
			}
		})
	}
}

func TestLastEvents(t *testing.T) {
	facts := scene()
	all := facts.Events["192.0.2.10"]
	for i := range 6 {
		all = append(all, corev1.Event{LastTimestamp: *at(time.Duration(6-i) * time.Minute), Reason: "BackendDown", Message: string(rune('a' + i)), Count: int32(i)})
	}
	facts.Events["192.0.2.10"] = all
	got := told(t, New(facts).Explain(facts.VIPs[0]))
	if !strings.Contains(got, "Events:     5m ago  BackendDown: b\n") || !strings.HasSuffix(got, "60s ago  BackendDown: f (5 times)\n") {
		t.Error(got)
	}
}

func TestMovable(t *testing.T) {
	for _, tc := range []struct {
		name, to string
		change   func(*Facts)
		refusal  string
	}{
		{name: "a candidate", to: "n3"},
		{name: "where it is", to: "n2"},
		{name: "a cordoned node", to: "n4", refusal: "node n4 may not hold 192.0.2.10: the node is cordoned"},
		{name: "a dead speaker", to: "n1", refusal: "its speaker was revoked by that of node n2"},
		{name: "a node without speaker", to: "n5", refusal: "no speaker runs there"},
		{name: "no node", to: "n6", refusal: "there is no such node"},
		{name: "a speaker that restarts", to: "n3", refusal: "try again when it is back", change: func(f *Facts) {
			heartbeat := f.Heartbeats["n3"]
			heartbeat.Restarts = true
			f.Heartbeats["n3"] = heartbeat
		}},
		{name: "nobody holds it", to: "n3", refusal: "nobody holds 192.0.2.10", change: func(f *Facts) { delete(f.Claims, "192.0.2.10") }},
		{name: "somebody wants it elsewhere", to: "n3", refusal: "kubectl annotate vip 192.0.2.10 fairlead.dev/move-to-",
			change: func(f *Facts) { f.VIPs[0].Annotations = map[string]string{v1alpha1.AnnotationMoveTo: "n4"} }},
		{name: "Nodes are not known", to: "n3", refusal: "cannot be told without all Nodes", change: func(f *Facts) { f.Nodes = nil }},
		{name: "endpoints are not known", to: "n3", refusal: "EndpointSlices", change: func(f *Facts) {
			f.Slices, f.VIPs[0].Spec.Frontends[0].ExternalTrafficPolicy = nil, corev1.ServiceExternalTrafficPolicyLocal
		}},
		{name: "its pods are not there", to: "n3", refusal: "no ready pod of Service shop/web runs there",
			change: func(f *Facts) {
				f.VIPs[0].Spec.Frontends[0].ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			facts := scene()
			if tc.change != nil {
				tc.change(&facts)
			}
			err := New(facts).Movable(facts.VIPs[0], tc.to)
			if (err != nil) != (tc.refusal != "") || err != nil && !strings.Contains(err.Error(), tc.refusal) {
				t.Errorf("%v, want %q", err, tc.refusal)
			}
		})
	}
}

func TestRebalanceKnowsPoolsAndPins(t *testing.T) {
	facts := scene()
	for i, name := range []string{"192.0.2.11", "192.0.2.12", "192.0.2.13"} {
		vip := facts.VIPs[0].DeepCopy()
		vip.Name, vip.Spec.Address, vip.Spec.PreferredNodes = name, name, nil
		if i == 2 {
			vip.Spec.Pool = "dmz"
		}
		facts.VIPs = append(facts.VIPs, vip)
		facts.Claims[name] = facts.Claims["192.0.2.10"]
	}
	moves := func(pool string) (out []string) {
		t.Helper()
		all, err := New(facts).Rebalance(pool)
		if err != nil {
			t.Fatal(err)
		}
		for _, move := range all {
			out = append(out, move.VIP+" "+move.To.Node)
		}
		return out
	}
	if got := moves(""); len(got) != 2 || got[0] != "192.0.2.10 n3" {
		t.Errorf("all: %v", got)
	}
	if got := moves("dmz"); !slices.Equal(got, []string{"192.0.2.13 n3"}) {
		t.Errorf("of one pool: %v", got)
	}
	facts.VIPs[0].Annotations = map[string]string{v1alpha1.AnnotationMoveTo: "n2"}
	if got := moves(""); len(got) != 2 || slices.Contains(got, "192.0.2.10 n3") {
		t.Errorf("with one that is wanted where it is: %v", got)
	}
	if _, err := New(facts).Rebalance("lam"); err == nil || !strings.Contains(err.Error(), `IPPool "lam"`) {
		t.Errorf("of a pool that has none: %v", err)
	}
	heartbeat := facts.Heartbeats["n3"]
	heartbeat.Restarts = true
	facts.Heartbeats["n3"] = heartbeat
	if _, err := New(facts).Rebalance(""); err == nil || !strings.Contains(err.Error(), "node n3 is being replaced") {
		t.Errorf("while a speaker restarts: %v", err)
	}
}
