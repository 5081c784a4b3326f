package election

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Decide says what the speaker that sees view should do at now. It has no state and no effects.
func Decide(now Instant, timing Timing, view View) Decision {
	d := decider{now: now, timing: timing, view: view, wake: now.Add(timing.IdleRenewEvery)}
	d.owned = claimsByNode(view.Claims)
	d.judge()
	d.watch()
	d.confirm()
	d.revokeTheDead()
	d.place()
	d.hold()
	d.inherit()
	d.deleteTheUseless()
	d.renew()
	d.out.Alive, d.out.Wake = d.alive, d.wake
	return d.out
}

type decider struct {
	now      Instant
	timing   Timing
	view     View
	owned    map[string]Instant // nodes of which an incarnation owns claims, and when the newest was seen
	leased   int                // how many speakers have a heartbeat that is not too old, this one among them
	majority bool               // this speaker reaches more than half of them
	alive    map[string]bool    // nodes whose speakers live, this one among them
	able     map[string]bool    // those of them that are at work: the others are waited for while they restart
	remote   map[string]bool    // those that most others do not reach although their heartbeats tell that they live
	leaving  map[string]bool    // VIPs of this node that another one is to have
	bereaved bool               // an owner is dead: this node may be an heir
	out      Decision
	wake     Instant
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

// confirm finds out until when this node may announce what it claimed: TSelf from its last renewal on, or as long as it may
// hold on without one.
func (d *decider) confirm() {
	if !d.view.Registered {
		return
	}
	own := d.view.Renewed.Add(d.timing.TSelf)
	d.out.Until = own
	if before := max(own, d.view.Until); d.now < before {
		d.out.Until = max(before, d.holdOn())
	} else {
		d.out.Until = max(before, d.takeUp())
	}
	d.out.Unconfirmed = d.out.Until > own
	d.wakeAt(own)
	d.wakeAt(d.out.Until)
	d.ask()
}

// lapsed reports whether this node may announce nothing.
func (d *decider) lapsed() bool { return !d.view.Registered || d.now >= d.out.Until }

// confirmed reports whether this node's right stands by its own renewal.
func (d *decider) confirmed() bool {
	return !d.lapsed() && !d.out.Unconfirmed
}

// hold lists the VIPs that this node should have.
func (d *decider) hold() {
	if d.lapsed() {
		return
	}
	for _, vip := range d.view.VIPs {
		handed := d.handed(vip) || d.leaving[vip.Name] && d.confirmed() // from the moment on in which it is asked away
		if handed || d.mine(vip.Name) && !d.dropped(vip) && d.keeps(vip) {
			d.out.Hold = append(d.out.Hold, vip.Name)
		}
		if handed {
			d.out.Leaving = append(d.out.Leaving, vip.Name)
		}
	}
}

// keeps reports whether this node goes on with a VIP that it owns: it may hold it, or another is about to get it.
func (d *decider) keeps(vip VIP) bool {
	if d.out.Unconfirmed && d.view.Contested[vip.Name] {
		return false
	}
	return !d.mustLeave(vip) || d.leaving[vip.Name]
}

func (d *decider) mine(vip string) bool {
	claim, ok := d.view.Claims[vip]
	return ok && claim.Owner == d.view.Self && claim.Owner.Epoch != ""
}

// dropped reports whether this node asked to delete the claim of a VIP that it owns.
func (d *decider) dropped(vip VIP) bool {
	version, asked := d.view.Dropped[vip.Name]
	return asked && version == d.view.Claims[vip.Name].Version
}

// mustLeave reports whether this node has to give up a VIP that it owns: it is no candidate any more, or it ends.
func (d *decider) mustLeave(vip VIP) bool {
	return d.view.Ending || !slices.Contains(vip.Candidates, d.view.Self.Node)
}

// revokeTheDead revokes the heartbeats of dead owners. Those who could are ordered, so that mostly one of them does. An epoch that
// owns nothing is left alone: a heartbeat tells only which epoch was revoked last, and the node itself would be the first to know
// that the claims of the one before are free. So is one that answers nobody while nobody else can have what it owns: should it live
// after all, it would let go of VIPs that only it can serve. Once its heartbeat is too old, it is revoked in any case.
func (d *decider) revokeTheDead() {
	if !d.view.Registered || d.view.Ending || d.view.Failed > d.view.Renewed {
		return // while the API server does not answer, no heartbeat is seen to change
	}
	for node, peer := range d.view.Peers {
		if peer.Epoch == "" || peer.Version == "" || d.alive[node] || !d.owns(peer.Owner) {
			continue
		}
		d.bereaved = true
		death, reason := d.death(peer)
		at := death.Add(time.Duration(d.rank(node)) * d.timing.RevokeDelay)
		if expiry := d.expiry(peer); at < expiry && !d.replaceable(peer.Owner) {
			at = expiry
		}
		if d.now >= at {
			d.out.Revoke = append(d.out.Revoke, Revocation{Peer: peer, Reason: reason})
		}
		d.wakeAt(at)
	}
	if len(d.out.Revoke) == 0 {
		return
	}
	slices.SortFunc(d.out.Revoke, func(a, b Revocation) int { return cmp.Compare(a.Node, b.Node) })
	place := newPlacement(d.view.VIPs, d.able, d.remote)
	for _, vip := range d.view.VIPs {
		if node := d.view.Claims[vip.Name].Owner.Node; d.able[node] {
			place.add(node)
		}
	}
	for i := range d.out.Revoke {
		d.out.Revoke[i].Heirs = d.heirs(d.out.Revoke[i].Owner, place)
	}
}

// owns reports whether an incarnation owns any claim.
func (d *decider) owns(owner Owner) bool {
	if _, some := d.owned[owner.Node]; !some {
		return false
	}
	for _, claim := range d.view.Claims {
		if claim.Owner == owner {
			return true
		}
	}
	return false
}

// replaceable reports whether somebody could have a VIP of dead at once. Who does not reach most cannot tell who else is out of reach.
func (d *decider) replaceable(dead Owner) bool {
	has := func(node string) bool { return d.able[node] && (!d.majority || !d.remote[node]) }
	for _, vip := range d.view.VIPs {
		if d.view.Claims[vip.Name].Owner == dead && slices.ContainsFunc(vip.Candidates, has) {
			return true
		}
	}
	return false
}

// rank is this node's place among those at work in the order for a key.
func (d *decider) rank(key string) int {
	return slices.Index(ordered(key, slices.Collect(maps.Keys(d.able))), d.view.Self.Node)
}

// place gives the VIPs of this node that another should have to that one, and claims those that nobody owns and that are
// placed here, or that the candidates before this node left.
func (d *decider) place() {
	d.leaving = map[string]bool{}
	if !d.view.Registered {
		return
	}
	place := newPlacement(d.view.VIPs, d.able, d.remote)
	var free, leaving []VIP
	for _, vip := range d.view.VIPs {
		owner, owned := d.ownerOf(vip.Name)
		mine := owned && owner == d.view.Self.Node
		switch {
		case mine && (d.mustLeave(vip) || d.wanted(vip)):
			leaving = append(leaving, vip)
		case mine && (d.handed(vip) || d.dropped(vip)):
			// It was to go and stays after all: nobody knows what became of the request until another one is answered.
			place.add(owner)
			d.out.Claim = append(d.out.Claim, Move{VIP: vip.Name, To: d.view.Self})
		case owned:
			place.add(owner)
		default:
			free = append(free, vip)
		}
	}
	for _, vip := range leaving {
		d.hand(vip, place)
	}
	d.bequeath()
	if d.view.Ending {
		return
	}
	for _, vip := range free {
		order := place.assign(vip)
		rank := slices.Index(order, d.view.Self.Node)
		if rank < 0 {
			continue
		}
		since := d.freeSince(vip)
		for _, before := range order[:rank] {
			since = max(since, d.owned[before]) // one that still claims others has not come to this one yet
		}
		at := since.Add(time.Duration(rank) * d.timing.StepDelay)
		if d.now >= at {
			d.out.Claim = append(d.out.Claim, Move{VIP: vip.Name, To: d.view.Self, Reason: d.whyFree(vip.Name)})
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
		return owner.Node, owner.Epoch == d.view.Self.Epoch // not that of an earlier incarnation
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
	if claim.Owner.Node == d.view.Self.Node {
		since = max(since, d.view.Lost)
	}
	if peer, known := d.view.Peers[claim.Owner.Node]; known && claim.Owner.Node != "" {
		since = max(since, peer.EpochSeen)
	}
	return since
}

func (d *decider) whyFree(vip string) string {
	owner := d.view.Claims[vip].Owner
	if owner.Node == "" {
		return "nobody held it"
	}
	if peer := d.view.Peers[owner.Node]; peer.Revoked == owner.Epoch && peer.RevokedFor != "" {
		return peer.RevokedFor
	}
	return fmt.Sprintf("node %s gave up its epoch %s", owner.Node, owner.Epoch)
}

// deleteTheUseless deletes claims of this node that it must leave and nobody else can have, and claims of VIPs that are gone:
// the owner deletes its own, one of the living those that nobody can.
func (d *decider) deleteTheUseless() {
	known := 0
	for _, vip := range d.view.VIPs {
		if _, ok := d.view.Claims[vip.Name]; ok {
			known++
		}
		if d.mustLeave(vip) && !d.leaving[vip.Name] && d.mine(vip.Name) {
			d.out.Delete = append(d.out.Delete, vip.Name)
		}
	}
	if known < len(d.view.Claims) {
		d.deleteTheForgotten()
	}
	slices.Sort(d.out.Delete)
}

// deleteTheForgotten deletes claims of VIPs that are gone.
func (d *decider) deleteTheForgotten() {
	exists := make(map[string]bool, len(d.view.VIPs))
	for _, vip := range d.view.VIPs {
		exists[vip.Name] = true
	}
	for name, claim := range d.view.Claims {
		if exists[name] || claim.Version == "" {
			continue
		}
		_, owned := d.ownerOf(name)
		if d.mine(name) || (!owned && !d.view.Ending && d.rank(name) == 0) {
			d.out.Delete = append(d.out.Delete, name)
		}
	}
}

// renewEvery is the time between renewals: that of an owner also for one that gave all its VIPs away and serves some on.
func (d *decider) renewEvery() time.Duration {
	if _, owns := d.owned[d.view.Self.Node]; owns || len(d.view.Handed) > 0 {
		return d.timing.RenewEvery
	}
	return d.timing.IdleRenewEvery
}

// renew says when to renew: often while this node owns or claims something, else rarely.
func (d *decider) renew() {
	every := d.renewEvery()
	if !d.view.Registered || d.view.Failed > d.view.Renewed || len(d.out.Claim) > 0 || d.bereaved {
		every = d.timing.RenewEvery
	}
	if _, _, answered := d.lacking(anyReach); answered && d.out.Unconfirmed {
		every = d.timing.AskEvery // it is back: a request that got no answer would get none
		d.out.Retry = d.now >= d.view.Attempted.Add(every)
	}
	at := d.view.Attempted.Add(every)
	d.out.Renew = d.now >= at || len(d.out.Bequeath) > 0
	d.wakeAt(at)
}
