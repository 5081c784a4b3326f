package election

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Decide says what the speaker that sees view should do at now. It has no state and no effects.
func Decide(now Instant, timing Timing, view View) Decision {
	d := decider{now: now, timing: timing, view: view, wake: now.Add(timing.IdleRenewEvery)}
	d.owned = claimsByNode(view.Claims)
	d.alive = d.livingNodes()
	d.hold()
	d.revokeTheDead()
	d.claimTheFree()
	d.deleteTheUseless()
	d.renew()
	d.out.Alive, d.out.Wake = d.alive, d.wake
	return d.out
}

type decider struct {
	now    Instant
	timing Timing
	view   View
	owned  map[string]Instant // nodes whose current incarnation owns claims, and when the newest was seen
	alive  map[string]bool    // nodes whose speakers live, this one among them
	out    Decision
	wake   Instant
}

// wakeAt notes an instant at which the decision may change.
func (d *decider) wakeAt(at Instant) {
	if at > d.now && at < d.wake {
		d.wake = at
	}
}

func claimsByNode(claims map[string]Claim) map[string]Instant {
	owned := map[string]Instant{}
	for _, claim := range claims {
		if node := claim.Owner.Node; node != "" {
			owned[node] = max(owned[node], claim.Seen)
		}
	}
	return owned
}

// expiry is when a peer counts as dead if its heartbeat does not change. A peer that just claimed renews at the same time,
// so its heartbeat is given TTake from the claim on.
func (d *decider) expiry(peer Peer) Instant {
	if claimed, owns := d.owned[peer.Node]; owns {
		return max(peer.VersionSeen, claimed).Add(d.timing.TTake)
	}
	return peer.VersionSeen.Add(d.timing.IdleExpiry)
}

func (d *decider) livingNodes() map[string]bool {
	alive := map[string]bool{d.view.Self.Node: true}
	for node, peer := range d.view.Peers {
		if peer.Epoch == "" || peer.Version == "" {
			continue
		}
		if expiry := d.expiry(peer); d.now < expiry {
			alive[node] = true
			d.wakeAt(expiry)
		}
	}
	return alive
}

// hold lists the VIPs that this node may announce: claimed by this incarnation, which renewed less than TSelf ago.
func (d *decider) hold() {
	if !d.view.Registered {
		return
	}
	d.out.Until = d.view.Renewed.Add(d.timing.TSelf)
	if d.now >= d.out.Until {
		return
	}
	d.wakeAt(d.out.Until)
	for _, vip := range d.view.VIPs {
		if d.mine(vip.Name) && !d.mustLeave(vip) {
			d.out.Hold = append(d.out.Hold, vip.Name)
		}
	}
}

func (d *decider) mine(vip string) bool {
	claim, ok := d.view.Claims[vip]
	return ok && claim.Owner == d.view.Self && claim.Owner.Epoch != ""
}

// mustLeave reports whether this node has to give up a VIP that it owns: it is no candidate any more.
func (d *decider) mustLeave(vip VIP) bool {
	return !slices.Contains(vip.Candidates, d.view.Self.Node)
}

// revokeTheDead revokes the heartbeats of dead owners. Those who could are ordered, so that mostly one of them does.
func (d *decider) revokeTheDead() {
	if !d.view.Registered {
		return
	}
	for node, peer := range d.view.Peers {
		if _, owns := d.owned[node]; !owns || peer.Epoch == "" || peer.Version == "" || d.alive[node] {
			continue
		}
		at := d.expiry(peer).Add(time.Duration(d.rank(node)) * d.timing.RevokeDelay)
		if d.now >= at {
			d.out.Revoke = append(d.out.Revoke, peer)
		}
		d.wakeAt(at)
	}
	slices.SortFunc(d.out.Revoke, func(a, b Peer) int { return cmp.Compare(a.Node, b.Node) })
}

// rank is this node's place among the living ones in the order for a key.
func (d *decider) rank(key string) int {
	return slices.Index(ordered(key, slices.Collect(maps.Keys(d.alive))), d.view.Self.Node)
}

// claimTheFree claims the VIPs that nobody owns and that are placed here, or that the candidates before this node left.
func (d *decider) claimTheFree() {
	if !d.view.Registered {
		return
	}
	place := newPlacement(d.view.VIPs, d.alive)
	var free []VIP
	for _, vip := range d.view.VIPs {
		owner, owned := d.ownerOf(vip.Name)
		switch {
		case owned:
			place.add(owner)
		case owner == d.view.Self.Node && !d.mustLeave(vip):
			place.add(owner)
			d.out.Claim = append(d.out.Claim, vip.Name)
		default:
			free = append(free, vip)
		}
	}
	for _, vip := range free {
		order := place.assign(vip)
		rank := slices.Index(order, d.view.Self.Node)
		if rank < 0 {
			continue
		}
		at := d.freeSince(vip).Add(time.Duration(rank) * d.timing.StepDelay)
		if d.now >= at {
			d.out.Claim = append(d.out.Claim, vip.Name)
		}
		d.wakeAt(at)
	}
}

// ownerOf names the node of a VIP's claim, and whether that node owns it still. If not, the VIP is free to claim.
func (d *decider) ownerOf(vip string) (node string, owned bool) {
	owner := d.view.Claims[vip].Owner
	switch owner.Node {
	case "":
		return "", false
	case d.view.Self.Node:
		// An earlier incarnation on this very node: its kernel state is this one's.
		return owner.Node, owner.Epoch == d.view.Self.Epoch
	}
	free := d.ownerGone(owner)
	d.wakeAt(free)
	return owner.Node, d.now < free
}

// ownerGone is the instant from which others may take the claims of owner. One whose heartbeat stands must be revoked first,
// and then they are free at once: TTake passed before. In every other case (the heartbeat was deleted, a new incarnation
// overwrote it, another epoch was revoked, or the watch has not brought it yet) nothing is known of the owner's last
// renewal, so TTake passes from what was seen last.
func (d *decider) ownerGone(owner Owner) Instant {
	peer, known := d.view.Peers[owner.Node]
	switch {
	case known && peer.Version != "" && peer.Epoch == owner.Epoch:
		return never
	case known && peer.Version != "" && peer.Revoked == owner.Epoch:
		return d.now
	}
	seen := max(d.owned[owner.Node], peer.EpochSeen)
	if peer.Version == "" {
		seen = max(seen, peer.VersionSeen)
	}
	return seen.Add(d.timing.TTake)
}

const never = Instant(1<<63 - 1)

// freeSince is when this speaker could first see that a VIP is free.
func (d *decider) freeSince(vip VIP) Instant {
	claim, ok := d.view.Claims[vip.Name]
	if !ok {
		return vip.Seen
	}
	since := max(vip.Seen, claim.Seen)
	if peer, known := d.view.Peers[claim.Owner.Node]; known && claim.Owner.Node != "" {
		since = max(since, peer.EpochSeen)
	}
	return since
}

// deleteTheUseless deletes claims of this node that it must leave, and claims of VIPs that are gone: the owner deletes its
// own, one of the living those that nobody can.
func (d *decider) deleteTheUseless() {
	exists := map[string]bool{}
	for _, vip := range d.view.VIPs {
		exists[vip.Name] = true
		if d.mine(vip.Name) && d.mustLeave(vip) {
			d.out.Delete = append(d.out.Delete, vip.Name)
		}
	}
	for name, claim := range d.view.Claims {
		if exists[name] || claim.Version == "" {
			continue
		}
		_, owned := d.ownerOf(name)
		if d.mine(name) || (!owned && d.rank(name) == 0) {
			d.out.Delete = append(d.out.Delete, name)
		}
	}
	slices.Sort(d.out.Delete)
}

// renew says when to renew: often while this node owns or claims something, else rarely.
func (d *decider) renew() {
	every := d.timing.IdleRenewEvery
	if _, owns := d.owned[d.view.Self.Node]; owns || len(d.out.Claim) > 0 {
		every = d.timing.RenewEvery
	}
	if !d.view.Registered {
		every = d.timing.RenewEvery
	}
	at := d.view.Attempted.Add(every)
	d.out.Renew = d.now >= at
	d.wakeAt(at)
}
