package election

import (
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// watched takes in a Lease that the watch brought. Wills count from then on only: see Will.
func (e *Elector) watched(object any) {
	lease, ok := object.(*coordinationv1.Lease)
	if !ok {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.brought = e.config.Clock()
	if node, isHeartbeat := strings.CutPrefix(lease.Name, heartbeatPrefix); isHeartbeat {
		e.heed(node, lease)
	}
	e.observe(lease)
}

// observe takes in a Lease that the watch or a write of this speaker brought. Older versions than known are passed over: a write is
// known before the watch tells of it. The lock is held.
func (e *Elector) observe(lease *coordinationv1.Lease) {
	if known := e.objects[lease.Name]; known != nil && version(known.ResourceVersion) >= version(lease.ResourceVersion) {
		return
	}
	if version(lease.ResourceVersion) <= e.deleted[lease.Name] {
		return
	}
	e.objects[lease.Name] = lease
	if vip, isClaim := strings.CutPrefix(lease.Name, claimPrefix); isClaim && lease.Labels[LabelLease] == KindClaim {
		claim := readClaim(lease)
		claim.Owner, claim.Seen = e.wills.owner(vip, claim), e.config.Clock()
		e.view.Claims[vip] = claim
		e.wakeUp()
		return
	}
	if node, isHeartbeat := strings.CutPrefix(lease.Name, heartbeatPrefix); isHeartbeat {
		if node == e.config.Node {
			e.observeOwn(lease)
		} else {
			e.observePeer(node, lease)
		}
	}
}

// observeOwn finds out that this speaker's heartbeat was revoked. It is called with the lock held.
func (e *Elector) observeOwn(lease *coordinationv1.Lease) {
	e.own = lease
	owner := parseOwner(lease.Spec.HolderIdentity)
	if owner.Epoch != "" && owner == e.successor {
		e.view.Self, e.successor = owner, Owner{}
		e.wakeUp()
	}
	if e.view.Registered && owner != e.view.Self {
		e.deregister()
	}
}

// deregister gives up the epoch: rights end at once, and the next renewal begins a new one. The lock is held.
func (e *Elector) deregister() {
	cause := map[string]string{}
	if e.own != nil {
		cause = e.own.Annotations
	}
	klog.Background().Info("Its epoch was revoked: it lets all its VIPs go, and begins another", "node", e.config.Node,
		"epoch", e.view.Self.Epoch, "vips", len(e.status.Hold), "by", cause[annotationRevokedBy], "reason", cause[AnnotationReason])
	e.view.Registered = false
	e.view.Self.Epoch, e.successor = "", Owner{}
	e.view.Attempted = 0
	e.view.Lost = e.config.Clock()
	e.config.Metrics.revoked()
	e.setHold(Decision{})
	e.wakeUp()
}

// observePeer takes in the heartbeat of another speaker. A mere renewal changes no decision, only when the next is due.
func (e *Elector) observePeer(node string, lease *coordinationv1.Lease) {
	now := e.config.Clock()
	owner := parseOwner(lease.Spec.HolderIdentity)
	old, known := e.view.Peers[node]
	peer := Peer{
		Owner: Owner{Node: node, Epoch: owner.Epoch}, Revoked: lease.Annotations[annotationRevoked],
		RevokedFor: lease.Annotations[AnnotationReason], Grace: grace(lease),
		Version: lease.ResourceVersion, VersionSeen: now, EpochSeen: now,
	}
	back := known && now.Sub(old.VersionSeen) > e.config.Timing.TTake
	if known && old.Epoch == peer.Epoch && old.Version != "" {
		if goesOn := old.Grace > 0 && peer.Grace == 0; !goesOn {
			peer.EpochSeen = old.EpochSeen
		}
		if peer.Epoch != "" && old.Version != peer.Version {
			e.renewed[node] = now
		}
	}
	e.view.Peers[node] = peer
	info, err := decodeInfo(lease.Annotations[annotationSpeaker])
	if err != nil {
		delete(e.infos, node)
		return
	}
	changed := e.infos[node].encode() != info.encode() || !known || old.Epoch != peer.Epoch || old.Version == ""
	e.infos[node] = info
	if changed {
		e.config.Notify()
	}
	if changed || back || old.Grace != peer.Grace {
		e.wakeUp()
	}
}

// watchedDeletion takes in what the watch tells of a deletion. It tells nothing older after that.
func (e *Elector) watchedDeletion(object any) {
	if tombstone, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = tombstone.Obj
	}
	if lease, ok := object.(*coordinationv1.Lease); ok {
		e.mu.Lock()
		defer e.mu.Unlock()
		if node, isHeartbeat := strings.CutPrefix(lease.Name, heartbeatPrefix); isHeartbeat {
			e.replaceWills(node, nil)
		}
		delete(e.deleted, lease.Name)
		e.observeDeletion(lease)
	}
}

// observeDeletion takes in that a Lease is gone. The lock is held.
func (e *Elector) observeDeletion(lease *coordinationv1.Lease) {
	if known := e.objects[lease.Name]; known != nil && known.UID != lease.UID {
		return // created anew before the watch told of the deletion
	}
	delete(e.objects, lease.Name)
	now := e.config.Clock()
	if vip, isClaim := strings.CutPrefix(lease.Name, claimPrefix); isClaim {
		e.forgetClaim(vip, now)
	} else if node, isHeartbeat := strings.CutPrefix(lease.Name, heartbeatPrefix); isHeartbeat {
		if node == e.config.Node {
			e.own = nil
			if e.view.Registered {
				e.deregister()
			}
		} else if peer, known := e.view.Peers[node]; known {
			peer.Version, peer.VersionSeen = "", now
			e.view.Peers[node] = peer
			e.config.Notify()
		}
	}
	e.wakeUp()
}

// forgetClaim notes that a VIP has no claim, which is news only while the VIP exists. The lock is held.
func (e *Elector) forgetClaim(vip string, now Instant) {
	delete(e.view.Claims, vip)
	for _, known := range e.view.VIPs {
		if known.Name == vip {
			e.view.Claims[vip] = Claim{Seen: now}
		}
	}
}
