package election

import (
	"context"
	"maps"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

// heirs are those who should have the VIPs of a peer that is to be revoked. One that is out of reach is no heir: it would have them
// before the dead one, should that live after all, is back. Who does not reach most cannot tell, and leaves all to be claimed.
func (d *decider) heirs(dead Owner, place *placement) map[string]Owner {
	out, size := map[string]Owner{}, 0
	if d.view.Reach != nil && !d.majority {
		return out
	}
	for _, vip := range d.view.VIPs {
		if d.view.Claims[vip.Name].Owner != dead {
			continue
		}
		order := place.assign(vip)
		if len(order) == 0 || d.remote[order[0]] {
			continue
		}
		heir := d.view.Self
		if order[0] != heir.Node {
			heir = d.view.Peers[order[0]].Owner
		}
		if size += willSize(vip.Name); size > maxHeirs {
			break
		}
		out[vip.Name] = heir
	}
	return out
}

// inheritEvery is how often a speaker writes a claim for a VIP that it has already: nobody waits for those.
const inheritEvery = 20 * time.Millisecond

// inherit lists a claim to write for a VIP that this node has by a will: one after the other, once all is calm again.
func (d *decider) inherit() {
	if !d.confirmed() {
		return
	}
	for _, vip := range d.view.VIPs {
		claim := d.view.Claims[vip.Name]
		if claim.Written == claim.Owner || !d.mine(vip.Name) || d.leaving[vip.Name] {
			continue
		}
		at := max(claim.Seen.Add(2*d.timing.TTake), d.view.Inherited.Add(inheritEvery))
		if d.wakeAt(at); d.now >= at {
			d.out.Inherit = []Move{{VIP: vip.Name, To: d.view.Self}}
			return
		}
	}
}

// heed takes in what a heartbeat says of VIPs of revoked epochs. A will that cannot be read is none: its VIPs are free. The lock is
// held.
func (e *Elector) heed(node string, lease *coordinationv1.Lease) {
	text := lease.Annotations[annotationHeirs]
	if e.heeded[node] >= version(lease.ResourceVersion) {
		return // of its own heartbeat a speaker may know more than the watch has brought
	}
	e.heeded[node] = version(lease.ResourceVersion)
	if text == e.heirs[node] {
		return
	}
	wills, err := decodeWills(node, lease)
	if err != nil {
		klog.Background().Error(err, "Cannot read who has the VIPs of a revoked epoch", "lease", lease.Name)
	}
	e.replaceWills(node, wills)
	e.heirs[node] = text
}

// replaceWills puts wills in the place of those of a node, and finds the owners of all claims anew. The lock is held.
func (e *Elector) replaceWills(node string, wills Wills) {
	delete(e.heirs, node)
	maps.DeleteFunc(e.wills, func(testator Owner, _ Will) bool { return testator.Node == node })
	maps.Copy(e.wills, wills)
	for vip, claim := range e.view.Claims {
		if owner := e.wills.owner(vip, claim); owner != claim.Owner {
			claim.Owner, claim.Seen = owner, e.config.Clock()
			e.view.Claims[vip] = claim
		}
	}
	e.wakeUp()
}

// willsOf are the wills of a heartbeat that VIPs still have their owners by, as far as the watch told.
func (e *Elector) willsOf(lease *coordinationv1.Lease) Wills {
	left := Wills{}
	if lease == nil {
		return left
	}
	node := strings.TrimPrefix(lease.Name, heartbeatPrefix)
	wills, err := decodeWills(node, lease)
	if err != nil {
		return left
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	needed := e.wills.needed(node, e.view.Claims)
	for testator, will := range wills {
		_, known := e.wills[testator]
		if _, still := needed[testator]; still || !known {
			left[testator] = will
		}
	}
	return left
}

// awaitEvery is how often await looks.
const awaitEvery = 2 * time.Millisecond

// await waits until the watch brings a version of a Lease that this speaker wrote: what it knows is as new then.
func (e *Elector) await(ctx context.Context, lease *coordinationv1.Lease) error {
	e.mu.Lock()
	e.view.Answered = e.config.Clock()
	e.mu.Unlock()
	return wait.PollUntilContextCancel(ctx, awaitEvery, true, func(context.Context) (bool, error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		known := e.objects[lease.Name]
		return known != nil && version(known.ResourceVersion) >= version(lease.ResourceVersion), nil
	})
}
