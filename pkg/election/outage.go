package election

import (
	"cmp"
	"slices"
	"time"
)

// lacks reports whether the API server does not answer this speaker: a request since the last renewal that succeeded failed,
// or one is late.
func (d *decider) lacks() bool { return d.view.Failed > d.view.Renewed || d.now >= d.late() }

// late is when the next renewal is: when it has been under way for AskEvery, or would have been if it had begun at its time, which
// it cannot where the one before was answered late.
func (d *decider) late() Instant {
	late := d.view.Renewed.Add(d.renewEvery())
	if d.view.Attempted > d.view.Renewed {
		late = min(late, d.view.Attempted)
	}
	return late.Add(d.timing.AskEvery)
}

// ask asks the peers whether the API server answers them, as long as it does not answer this speaker.
func (d *decider) ask() {
	if d.view.Policy != Hold || d.view.Reach == nil {
		return
	}
	if !d.lacks() {
		d.wakeAt(d.late())
		return
	}
	at := d.view.Asked.Add(d.timing.AskEvery)
	d.out.Ask = d.now >= at
	d.wakeAt(max(at, d.now.Add(d.timing.AskEvery)))
}

// holdOn is until when this speaker may keep its VIPs although its renewals get no answer.
//
// A peer that the API server did not answer either cannot have revoked this speaker's heartbeat before, and it will not for
// HoldFor after it is answered again (View.Resumed). So an answer of no gives most of that from the question on, if those who
// gave it are more than half of all, with this speaker: a part that is cut off from the rest does not know what the rest has.
// One of two goes on alone if the other is silent: often the API server went with that one. In any case the right lasts for
// most of TTake, before which nobody takes anything: so long may a write of a slow API server take.
func (d *decider) holdOn() Instant {
	if d.view.Policy != Hold || !d.lacks() {
		return 0
	}
	if d.view.Reach == nil && d.known() > 1 {
		return 0
	}
	lacking, reached, answered := d.lacking(anyReach)
	enough := d.known() / 2
	switch {
	case enough == 0 || d.known() == 2 && reached == 0:
		return d.now.Add(d.timing.TSelf)
	case answered || len(lacking) < enough:
		return d.view.Renewed.Add(d.timing.TSelf + (d.timing.TTake-d.timing.TSelf)*9/10)
	}
	return lacking[enough-1].Add(d.noGives())
}

func anyReach(Reach) bool { return true }

// takeUp is until when this speaker may have its VIPs back although its right ended: it was stopped for a while, or had no
// processor, in an outage that goes on. As many peers as holdOn asks for must say that they cannot have taken them meanwhile.
func (d *decider) takeUp() Instant {
	if d.view.Policy != Hold || !d.lacks() || d.view.Reach == nil && d.known() > 1 {
		return 0
	}
	enough := d.known() / 2
	if enough == 0 {
		return d.now.Add(d.timing.TSelf)
	}
	lacking, _, answered := d.lacking(func(reach Reach) bool { return reach.Spared == d.view.Self.Epoch })
	if answered || len(lacking) < enough {
		return 0
	}
	return lacking[enough-1].Add(d.noGives())
}

// noGives is for how long a peer's answer of no keeps the right, from the question on.
func (d *decider) noGives() time.Duration {
	return max(d.timing.HoldFor, d.timing.TTake) * 9 / 10
}

// Spares returns the epoch of a peer that this speaker cannot have revoked for its silence, because the API server last answered
// it before the peer's heartbeat was old enough; empty if it may have been.
func (v View) Spares(node string, timing Timing) string {
	peer := v.Peers[node]
	if v.Answered >= peer.VersionSeen.Add(timing.TTake) {
		return ""
	}
	return peer.Epoch
}

// lacking is when those peers were asked whom the API server did not answer lately, the last first, if they count; how many peers
// this speaker reaches; and whether the API server answered any of them.
func (d *decider) lacking(counts func(Reach) bool) (asked []Instant, reached int, answered bool) {
	for _, reach := range d.view.Reach {
		if !reach.Alive {
			continue
		}
		reached++
		switch {
		case reach.Said == 0 || d.now >= reach.Said.Add(d.timing.TSelf):
		case reach.HasAPI:
			answered = true
		case counts(reach):
			asked = append(asked, reach.Said)
		}
	}
	slices.SortFunc(asked, func(a, b Instant) int { return cmp.Compare(b, a) })
	return asked, reached, answered
}

// known is how many speakers there are as far as this one knows, itself among them: those that lived when it last heard from the
// API server, and those that it reaches.
func (d *decider) known() int {
	count := 1
	for node, peer := range d.view.Peers {
		if d.view.Reach[node].Alive || peer.Epoch != "" && peer.Version != "" && d.view.Renewed < d.expiry(peer) {
			count++
		}
	}
	return count
}
