package election

import (
	"crypto/rand"
	"time"
)

// bequeath turns many VIPs that are to be handed over into a bequest: those that go for one reason, the others come next. This node's
// other VIPs have to be part of the same will, and their claims written anew like those of the rest: half of all go, or it is not worth it.
func (d *decider) bequeath() {
	if len(d.out.Hand) <= d.timing.HandSingly || d.view.Crowded > 0 && d.now < d.view.Crowded.Add(d.timing.HoldFor) {
		return
	}
	owned, size := 0, 0
	for vip, claim := range d.view.Claims {
		if claim.Owner == d.view.Self {
			owned++
			size += willSize(vip)
		}
	}
	if size > maxHeirs || 2*len(d.out.Hand) < owned {
		return
	}
	for _, move := range d.out.Hand {
		if move.Reason == d.out.Hand[0].Reason {
			d.out.Bequeath = append(d.out.Bequeath, move)
		}
	}
	d.out.Hand = nil
}

// bequeath makes the will by which this speaker gives VIPs to others, and keeps the rest under its next epoch. It is empty if there
// is nothing to give, or the heartbeat has no room for it beside others: then they go one by one. The lock is held.
func (e *Elector) bequeath(bequest []Move) Will {
	if len(bequest) == 0 || !e.view.Registered {
		return Will{}
	}
	next := e.successor // of an earlier request, which may still be done
	if next == (Owner{}) {
		next = Owner{Node: e.config.Node, Epoch: newEpoch()}
	}
	will := Will{Heirs: map[string]Owner{}, Reason: bequest[0].Reason, Written: time.Now()}
	for vip, claim := range e.view.Claims {
		if claim.Owner == e.view.Self {
			will.Heirs[vip] = next
		}
	}
	wills := e.wills.needed(e.config.Node, e.view.Claims)
	if wills[e.view.Self] = will; !wills.fit() {
		e.view.Crowded = e.config.Clock()
		return Will{}
	}
	e.successor = next
	now := e.config.Clock()
	for _, move := range bequest {
		if _, has := will.Heirs[move.VIP]; has {
			will.Heirs[move.VIP] = move.To
			e.view.Handed[move.VIP] = now // before the watch can tell of it
			delete(e.heard, move.VIP)
		}
	}
	return will
}

func newEpoch() string { return rand.Text()[:10] }
