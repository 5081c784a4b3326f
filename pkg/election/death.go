package election

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// judge finds out whose speakers live.
func (d *decider) judge() {
	d.alive, d.able = map[string]bool{}, map[string]bool{}
	d.leased = 1
	reached := 1
	for node, peer := range d.view.Peers {
		if peer.Epoch == "" || peer.Version == "" || d.now >= d.expiry(peer) {
			continue
		}
		d.leased++
		if d.view.Reach[node].Alive {
			reached++
		}
	}
	d.majority = 2*reached > d.leased
	d.remote = d.outOfReach()
	if !d.view.Ending {
		d.alive[d.view.Self.Node], d.able[d.view.Self.Node] = true, true
	}
	for node, peer := range d.view.Peers {
		if peer.Epoch == "" || peer.Version == "" {
			continue
		}
		if death, _ := d.death(peer); d.now < death {
			d.alive[node] = true
			if peer.Grace == 0 {
				d.able[node] = true
			}
			d.wakeAt(death)
		}
	}
}

// watchers is how many nodes watch each owner of VIPs.
const watchers = 3

// watch lists the owners whose silence this node is to notice at once: it is one of the first that would revoke them.
func (d *decider) watch() {
	for node, peer := range d.view.Peers {
		if _, owns := d.owned[node]; !owns || !d.able[node] {
			continue
		}
		others := maps.Clone(d.able)
		delete(others, node)
		first := ordered(node, slices.Collect(maps.Keys(others)))
		if slices.Contains(first[:min(watchers, len(first))], d.view.Self.Node) {
			d.out.Watch = append(d.out.Watch, peer.Node)
		}
	}
	slices.Sort(d.out.Watch)
}

// outOfReach are the nodes that should have no VIP as long as others can: those that this speaker does not reach, if it
// reaches most; else it is this one itself that the others do not reach. So it is if they just revoked it: they may know
// sooner.
func (d *decider) outOfReach() map[string]bool {
	remote := map[string]bool{}
	if proven := d.view.Lost.Add(d.timing.TTake); d.view.Lost > 0 && d.now < proven {
		remote[d.view.Self.Node] = true
		d.wakeAt(proven)
	}
	for node, reach := range d.view.Reach {
		if reach.Dead == 0 {
			continue
		}
		if d.majority {
			remote[node] = true
		} else {
			remote[d.view.Self.Node] = true
		}
	}
	return remote
}

// expiry is when a peer counts as dead if its heartbeat does not change. A peer that just claimed renews at the same time,
// so its heartbeat is given TTake from the claim on. While the API server did not answer this speaker, it saw no changes, and told
// peers that ask: see holdOn.
func (d *decider) expiry(peer Peer) Instant {
	seen := max(peer.VersionSeen, d.view.Resumed)
	if peer.Grace > 0 {
		return seen.Add(peer.Grace)
	}
	if claimed, owns := d.owned[peer.Node]; owns {
		expiry := max(seen, claimed).Add(d.timing.TTake)
		if d.view.Resumed > 0 {
			expiry = max(expiry, d.view.Resumed.Add(d.timing.HoldFor))
		}
		return expiry
	}
	return seen.Add(d.timing.IdleExpiry)
}

// death is when a peer counts as dead, by its heartbeat or because it answers nobody, and why.
//
// The second counts at once for a speaker that reaches more than half of all, and did when it found that out. Any other may be the
// one that is cut off, and waits until the heartbeat of an owner is late as well. It counts for the incarnation that it was found
// of: one that began a new epoch since then reaches the API server, and gets what nobody else can have. Of one that said that it
// restarts, it counts only once its machine does not answer either.
func (d *decider) death(peer Peer) (Instant, string) {
	expiry := d.expiry(peer)
	silent := fmt.Sprintf("the heartbeat of node %s did not change for %v", peer.Node, expiry.Sub(max(peer.VersionSeen, d.view.Resumed)).Round(time.Second))
	reach := d.view.Reach[peer.Node]
	if reach.Dead == 0 || reach.Dead < peer.EpochSeen || peer.Grace > 0 && reach.Refused {
		return expiry, silent
	}
	at := reach.Dead
	if !d.majority || reach.Alone {
		if _, owns := d.owned[peer.Node]; !owns {
			return expiry, silent
		}
		at = max(at, peer.VersionSeen.Add(d.timing.LateAfter))
	}
	if at >= expiry {
		return expiry, silent
	}
	if reach.Refused {
		return at, fmt.Sprintf("the speaker of node %s ended", peer.Node)
	}
	return at, fmt.Sprintf("node %s answers nobody", peer.Node)
}
