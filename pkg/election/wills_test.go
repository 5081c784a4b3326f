package election

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestWills(t *testing.T) {
	a, b, c := Owner{"a", "1"}, Owner{"b", "1"}, Owner{"c", "1"}
	wills := Wills{
		a: {Heirs: map[string]Owner{"10.0.0.1": b, "10.0.0.2": c}, Version: 50},
		b: {Heirs: map[string]Owner{"10.0.0.1": c}, Version: 60},
	}
	for name, test := range map[string]struct {
		vip   string
		claim Claim
		want  Owner
		by    string
	}{
		"a claim whose owner was not revoked is its":              {"10.0.0.1", Claim{Written: c, Author: c, Version: "10"}, c, ""},
		"one of a revoked owner is its heir's":                    {"10.0.0.2", Claim{Written: a, Author: a, Version: "10"}, c, "a"},
		"or the heir's heir's":                                    {"10.0.0.1", Claim{Written: a, Author: a, Version: "10"}, c, "a b"},
		"it stays the revoked owner's if its will does not say":   {"10.0.0.3", Claim{Written: a, Author: a, Version: "10"}, a, ""},
		"what its owner gave away before the will was made stays": {"10.0.0.2", Claim{Written: b, Author: a, Version: "49"}, b, ""},
		"what it gave away after that is void":                    {"10.0.0.2", Claim{Written: b, Author: a, Version: "51"}, c, "a"},
		"unless the will says nothing of it":                      {"10.0.0.3", Claim{Written: b, Author: a, Version: "51"}, b, ""},
		"an heir may give away what it got":                       {"10.0.0.2", Claim{Written: b, Author: c, Version: "70"}, b, ""},
		"one that was written before claims told of who wrote it": {"10.0.0.2", Claim{Written: a, Version: "10"}, c, "a"},
	} {
		t.Run(name, func(t *testing.T) {
			var by []string
			for _, testator := range wills.testators(test.vip, test.claim) {
				by = append(by, testator.Node)
			}
			if got := wills.owner(test.vip, test.claim); got != test.want || strings.Join(by, " ") != test.by {
				t.Errorf("owned by %v by the wills of %v, want %v by those of %s", got, by, test.want, test.by)
			}
		})
	}
	claims := map[string]Claim{"10.0.0.1": {Written: a, Author: a, Version: "10"}, "10.0.0.2": {Written: c, Author: c, Version: "70"}}
	if got := wills.needed("b", claims); len(got) != 1 || got[b].Heirs == nil {
		t.Errorf("needed of b's: %v, while one of its VIPs came from a", got)
	}
	delete(claims, "10.0.0.1")
	if got := wills.needed("a", claims); len(got) != 0 {
		t.Errorf("needed of a's: %v, although every claim has another owner", got)
	}
}

func TestWillsAreReadAsWritten(t *testing.T) {
	at := time.Date(2026, 11, 29, 23, 0, 0, 0, time.UTC)
	wills := Wills{
		{"n1", "e"}: {Heirs: map[string]Owner{"10.0.0.1": {"n2", "x"}, "10.0.0.2": {"n2", "x"}, "2001-db8--1": {"n3", "y"}}, Reason: "node n1 answers nobody", Written: at},
		{"n1", "d"}: {Heirs: map[string]Owner{"10.0.0.3": {"n3", "y"}}, Reason: "it was silent", Written: at, Version: 7},
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "42", Annotations: map[string]string{"other": "stays"}}}
	writeWills(lease, wills)
	want := wills[Owner{"n1", "e"}]
	want.Version = 42
	wills[Owner{"n1", "e"}] = want
	got, err := decodeWills("n1", lease)
	if err != nil || !reflect.DeepEqual(got, wills) {
		t.Errorf("%v, %v; want %v", got, err, wills)
	}
	writeWills(lease, nil)
	if len(lease.Annotations) != 1 {
		t.Errorf("annotations without a will: %v", lease.Annotations)
	}
	lease.Annotations[annotationHeirs] = "{"
	if _, err := decodeWills("n1", lease); err == nil || !strings.Contains(err.Error(), annotationHeirs) {
		t.Errorf("of what cannot be read: %v", err)
	}
}

func TestADeadOwnersHeirsAreThoseWhoMayHoldItsVIPs(t *testing.T) {
	view := scene()
	view.Peers["b"] = stale(view.Peers["b"], 95*second)
	for i, candidates := range [][]string{{"a", "c"}, {"c"}, {"a"}, nil} {
		name := fmt.Sprint("10.0.1.", i)
		view.VIPs = append(view.VIPs, VIP{Name: name, Candidates: candidates})
		view.Claims[name] = Claim{Owner: Owner{"b", "1"}, Written: Owner{"b", "1"}, Version: "9"}
	}
	d := Decide(100*second, DefaultTiming(), view)
	if len(d.Revoke) != 1 || len(d.Claim) > 0 {
		t.Fatalf("revokes %v, claims %v", d.Revoke, d.Claim)
	}
	heirs := d.Revoke[0].Heirs
	a, c := Owner{"a", "1"}, Owner{"c", "1"}
	if heirs["10.0.1.1"] != c || heirs["10.0.1.2"] != a || heirs["10.0.1.3"] != (Owner{}) || len(heirs) != 4 {
		t.Errorf("heirs %v", heirs)
	}
	load := map[Owner]int{a: 1} // it has 10.0.0.1
	for _, heir := range heirs {
		load[heir]++
	}
	if load[a] < 2 || load[c] < 2 {
		t.Errorf("not spread evenly: %v", load)
	}
	view.Reach = map[string]Reach{"b": {Dead: 98 * second}, "c": {}}
	if d := Decide(100*second, DefaultTiming(), view); len(d.Revoke) != 1 || len(d.Revoke[0].Heirs) > 0 {
		t.Errorf("one that reaches nobody says who inherits: %v", d.Revoke)
	}
	view.Reach = map[string]Reach{"b": {Dead: 98 * second}, "c": {Dead: 98 * second}, "d": {Alive: true}, "e": {Alive: true}}
	view.Peers["c"] = Peer{Owner: c, Version: "30", VersionSeen: 99 * second, EpochSeen: 99 * second} // began anew since it was found dead
	for _, node := range []string{"d", "e"} {
		view.Peers[node] = Peer{Owner: Owner{node, "1"}, Version: "9", VersionSeen: 99 * second}
	}
	d = Decide(100*second, DefaultTiming(), view)
	if len(d.Revoke) != 1 || d.Revoke[0].Heirs["10.0.1.0"] != a || d.Revoke[0].Heirs["10.0.1.1"] != (Owner{}) {
		t.Errorf("one that is out of reach inherits: %v", d.Revoke)
	}
}

// many is how many VIPs two members have.
const many = 30

// allOf are as many, which some nodes may hold.
func allOf(candidates ...string) (vips []VIP) {
	for i := range many {
		vips = append(vips, VIP{Name: fmt.Sprintf("10.0.0.%d", i+1), Candidates: candidates})
	}
	return vips
}

// two are members a, which owns all, and b, which may.
func two(t *testing.T, client *fake.Clientset) (a, b *member) {
	t.Helper()
	a, b = join(t, client, "a"), join(t, client, "b")
	eventually(t, "both know each other", func() bool { return len(a.Status().Speakers) == 2 && len(b.Status().Speakers) == 2 })
	for _, candidates := range [][]string{{"a"}, {"a", "b"}} {
		for _, m := range []*member{a, b} {
			m.SetVIPs(allOf(candidates...), Status{Settled: true})
		}
		eventually(t, "one owns all", a.owns(many))
	}
	return a, b
}

// owns returns whether a member has so many VIPs.
func (m *member) owns(vips int) func() bool {
	return func() bool { return len(m.Status().Hold) == vips }
}

func (m *member) self() Owner {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view.Self
}

// writesOf are the names of the Leases that were to be changed since the actions were cleared.
func writesOf(client *fake.Clientset) (names []string) {
	for _, action := range client.Actions() {
		if action.GetVerb() == "update" {
			names = append(names, action.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease).Name)
		}
	}
	return names
}

// read tells what the claims say, how many of them by a will, and what the wills are.
func read(t *testing.T, client *fake.Clientset) (held map[string]Holding, inherited int, wills string) {
	t.Helper()
	list, err := client.CoordinationV1().Leases(namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	known, held := Wills{}, map[string]Holding{}
	for i := range list.Items {
		if node, isHeartbeat := strings.CutPrefix(list.Items[i].Name, heartbeatPrefix); isHeartbeat {
			if err := known.Read(node, &list.Items[i]); err != nil {
				t.Error(err)
			}
			wills += list.Items[i].Annotations[annotationHeirs]
		}
	}
	for i := range list.Items {
		if isClaim(list.Items[i].Name) {
			holding := ReadClaim(&list.Items[i], known)
			held[list.Items[i].Name] = holding
			if parseOwner(list.Items[i].Spec.HolderIdentity) != holding.Owner {
				inherited++
			}
		}
	}
	return held, inherited, wills
}

func TestAllVIPsOfADeadSpeakerChangeHandsInOneWrite(t *testing.T) {
	client := newAPI()
	a, b := two(t, client)
	a.stop()
	client.ClearActions()
	eventually(t, "the other has them", b.owns(many))
	for _, name := range writesOf(client) {
		if isClaim(name) {
			t.Errorf("claim %s was written before it had all", name)
		}
	}
	told := func(when string, held map[string]Holding) {
		for name, holding := range held {
			if holding.Owner.Node != "b" || holding.Previous != "a" || !strings.Contains(holding.Reason, "heartbeat of node a") || holding.Since.IsZero() {
				t.Errorf("%s claim %s tells %+v", when, name, holding)
			}
		}
	}
	held, inherited, _ := read(t, client)
	if told("at once", held); len(held) != many || inherited == 0 {
		t.Errorf("%d claims, %d of them by a will", len(held), inherited)
	}
	eventually(t, "all claims are written for the heir", func() bool { _, inherited, _ := read(t, client); return inherited == 0 })
	held, _, wills := read(t, client)
	if told("later", held); wills == "" {
		t.Error("the will is gone, and who dropped it?")
	}
	again := join(t, client, "a")
	again.SetVIPs(allOf("a", "b"), Status{Settled: true})
	eventually(t, "the next process of the dead one's node needs no will", func() bool { _, _, wills := read(t, client); return wills == "" })
	if !b.owns(many)() || !again.owns(0)() {
		t.Errorf("the heir has %d, the one that came back %d", len(b.Status().Hold), len(again.Status().Hold))
	}
}
