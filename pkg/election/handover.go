package election

import (
	"fmt"
	"maps"
	"slices"
)

// A VIP moves as planned by make before break: its holder writes the claim over to another living candidate and goes on
// serving it, without announcing it, until every neighbour has heard the other one.

// wanted reports whether somebody wants a VIP of this node to be on another, which could have it.
func (d *decider) wanted(vip VIP) bool {
	return vip.MoveTo != "" && vip.MoveTo != d.view.Self.Node && slices.Contains(vip.Candidates, vip.MoveTo) &&
		d.able[vip.MoveTo] && !d.remote[vip.MoveTo] && d.view.Peers[vip.MoveTo].Epoch != ""
}

// hand gives a VIP of this node to the candidate that is next for it, if there is one.
func (d *decider) hand(vip VIP, place *placement) {
	others := vip
	others.Candidates = slices.DeleteFunc(slices.Clone(vip.Candidates), func(node string) bool { return node == d.view.Self.Node })
	reason := fmt.Sprintf("node %s handed it over: %s", d.view.Self.Node, vip.Leave)
	switch {
	case d.wanted(vip):
		others.Candidates = []string{vip.MoveTo}
		reason = fmt.Sprintf("node %s handed it over: it was to move to %s", d.view.Self.Node, vip.MoveTo)
	case d.view.Ending:
		reason = fmt.Sprintf("node %s handed it over: its speaker ended", d.view.Self.Node)
	}
	order := place.assign(others)
	if len(order) == 0 {
		return
	}
	d.leaving[vip.Name] = true
	if d.confirmed() {
		d.out.Hand = append(d.out.Hand, Move{VIP: vip.Name, To: d.view.Peers[order[0]].Owner, Reason: reason})
	}
}

// handed reports whether this node gives a VIP away and keeps it for those who have not heard the other yet. The other may have
// the claim from the moment on in which this node asked for that, whether an answer came or not.
func (d *decider) handed(vip VIP) bool {
	asked, ok := d.view.Handed[vip.Name]
	if !ok || d.mine(vip.Name) {
		return ok
	}
	limit := d.view.handLimit(d.timing, vip.Name, asked)
	d.wakeAt(limit)
	return d.now < limit
}

// handLimit is when this node lets go of a VIP that another one has from it, if it does not hear the other announce it.
func (v *View) handLimit(timing Timing, vip string, asked Instant) Instant {
	return max(asked, v.Taken[v.Claims[vip].Owner]).Add(timing.HandLimit)
}

// forgetHanded forgets what was given away or up and has gone.
func (e *Elector) forgetHanded(now Instant) {
	maps.DeleteFunc(e.view.Dropped, func(vip, version string) bool { return e.view.Claims[vip].Version != version })
	maps.DeleteFunc(e.view.Handed, func(vip string, asked Instant) bool {
		return e.view.Claims[vip].Owner != e.view.Self && now > e.view.handLimit(e.config.Timing, vip, asked)
	})
	maps.DeleteFunc(e.heard, func(vip string, _ Instant) bool { _, given := e.view.Handed[vip]; return !given })
	maps.DeleteFunc(e.view.Taken, func(_ Owner, heard Instant) bool { return now > heard.Add(e.config.Timing.HandLimit) })
}
