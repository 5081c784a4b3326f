package election

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

func TestManyVIPsAreHandedOverByOneWrite(t *testing.T) {
	view := scene()
	for i := range 20 {
		name := fmt.Sprintf("10.0.1.%d", i)
		view.VIPs = append(view.VIPs, VIP{Name: name, Candidates: []string{"b", "c"}, Leave: "node a is cordoned"})
		view.Claims[name] = Claim{Owner: view.Self, Written: view.Self, Version: "9"}
	}
	d := Decide(100*second, DefaultTiming(), view)
	if len(d.Hand) > 0 || len(d.Bequeath) != 20 || !d.Renew || len(d.Hold) != 21 || len(d.Leaving) != 20 {
		t.Errorf("hands over %v, bequeaths %v, renews %v, holds %d", d.Hand, d.Bequeath, d.Renew, len(d.Hold))
	}
	few := view
	few.VIPs = few.VIPs[:18]
	if d := Decide(100*second, DefaultTiming(), few); len(d.Hand) != 16 || len(d.Bequeath) > 0 {
		t.Errorf("of 16 bequeaths %v", d.Bequeath)
	}
	for i := range 30 {
		name := fmt.Sprintf("10.0.2.%d", i)
		view.VIPs = append(view.VIPs, VIP{Name: name, Candidates: []string{"a", "b"}})
		view.Claims[name] = Claim{Owner: view.Self, Written: view.Self, Version: "9"}
	}
	if d := Decide(100*second, DefaultTiming(), view); len(d.Hand) != 20 || len(d.Bequeath) > 0 {
		t.Errorf("bequeaths %d where more than half stay", len(d.Bequeath))
	}
}

// loseAnswer has the next bequest done and not answered, whenever lose is set.
func loseAnswer(client *fake.Clientset, lose *atomic.Bool) {
	update := client.ReactionChain[0]
	client.PrependReactor("update", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
		done, lease, err := update.React(action)
		written, ok := lease.(*coordinationv1.Lease)
		if err == nil && ok && written.Annotations[annotationHeirs] != "" && lose.CompareAndSwap(true, false) {
			return true, nil, errors.New("a timeout")
		}
		return done, lease, err
	})
}

// cordon takes one of two nodes out of the candidates of all VIPs but the first.
func cordon(node string, members ...*member) {
	for _, m := range members {
		vips := allOf("a", "b")
		for i := range vips[1:] {
			vips[i+1].Candidates, vips[i+1].Leave = strings.Fields(strings.Replace("a b", node, "", 1)), "node "+node+" is cordoned"
		}
		m.SetVIPs(vips, Status{Settled: true})
	}
}

// TestABequestIsDoneWhetherItIsAnsweredOrNot: a node is cordoned and gives all VIPs but one to the other by one write, which ends its
// epoch. It goes on with the one it keeps, and loses nothing if the answer to that write is lost.
func TestABequestIsDoneWhetherItIsAnsweredOrNot(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprint("lost=", lost), func(t *testing.T) {
			client, lose := newAPI(), &atomic.Bool{}
			loseAnswer(client, lose)
			a, b := two(t, client)
			epoch := a.self()
			lose.Store(lost)
			before, _, _ := read(t, client)
			client.ClearActions()
			cordon("a", a, b)
			eventually(t, "the other has what it shall have", b.owns(many-1))
			for _, name := range writesOf(client) {
				if isClaim(name) {
					t.Errorf("claim %s was written", name)
				}
			}
			eventually(t, "it goes on under another epoch", func() bool { return a.self().Epoch != epoch.Epoch && a.self().Epoch != "" })
			for _, vip := range allOf()[1:] {
				a.Announced(vip.Name) // the other, but once is not long enough
			}
			eventually(t, "it has kept one and let the others go", a.owns(1))
			eventually(t, "claims are written for who has them", func() bool { _, inherited, _ := read(t, client); return inherited == 0 })
			held, _, _ := read(t, client)
			for name, holding := range held {
				switch {
				case name == ClaimName("10.0.0.1"):
					want := before[name]
					if want.Owner = a.self(); holding != want {
						t.Errorf("the one that it kept: %+v, want %+v", holding, want)
					}
				case holding.Owner.Node != "b" || holding.Previous != "a" || !strings.Contains(holding.Reason, "cordoned"):
					t.Errorf("%s: %+v", name, holding)
				}
			}
			a.mu.Lock()
			if a.view.Lost != 0 {
				t.Error("it took its own bequest for a revocation")
			}
			a.mu.Unlock()
			eventually(t, "no will is left", func() bool { _, _, wills := read(t, client); return wills == "" })
		})
	}
}

// TestWhoEndsLeavesWhatOthersMayHaveByAnUnansweredBequest: what came of that request only the watch would have told.
func TestWhoEndsLeavesWhatOthersMayHaveByAnUnansweredBequest(t *testing.T) {
	client := newAPI()
	a, b := two(t, client)
	a.stop()
	b.stop()
	a.mu.Lock()
	a.successor = Owner{Node: "a", Epoch: "next"}
	a.mu.Unlock()
	if err := a.Resign(context.Background()); err != nil {
		t.Error(err)
	}
	if held, _, _ := read(t, client); len(held) != many {
		t.Errorf("%d of %d claims are left", len(held), many)
	}
}
