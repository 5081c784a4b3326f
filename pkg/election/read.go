package election

import (
	"maps"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// Heartbeat is what a heartbeat Lease tells people. The election itself never reads the times in it.
type Heartbeat struct {
	// Owner is the speaker's node and its epoch, which is empty if the heartbeat was revoked.
	Owner Owner
	Info  Info
	// Renewed is when the Lease was written last, by the API server's clock if it kept that, else by the writer's.
	Renewed time.Time
	// Lasts is how long it stands without being written.
	Lasts time.Duration
	// Restarts says that the speaker is being replaced and asked the others to wait for it.
	Restarts bool
	// RevokedBy is the node whose speaker revoked it, RevokedFor the reason.
	RevokedBy, RevokedFor string
}

// readSlack is what an observer adds to Lasts: both the API server's record of a write and its Date header are of whole seconds.
const readSlack = 2 * time.Second

// Silent tells since when a speaker has not renewed as it should have, if it has not.
func (h Heartbeat) Silent(now time.Time) (since time.Time, silent bool) {
	return h.Renewed, now.After(h.Renewed.Add(h.Lasts + readSlack))
}

// ReadHeartbeat reads the heartbeat Lease of a node's speaker.
func ReadHeartbeat(node string, lease *coordinationv1.Lease) (Heartbeat, error) {
	info, err := decodeInfo(lease.Annotations[annotationSpeaker])
	out := Heartbeat{
		Owner: Owner{Node: node, Epoch: parseOwner(lease.Spec.HolderIdentity).Epoch}, Info: info,
		Restarts: grace(lease) > 0, Renewed: written(lease),
		RevokedBy: lease.Annotations[annotationRevokedBy], RevokedFor: lease.Annotations[AnnotationReason],
	}
	if seconds := lease.Spec.LeaseDurationSeconds; seconds != nil {
		out.Lasts = time.Duration(*seconds) * time.Second
	}
	return out, err
}

// written is when a Lease was written last: the API server notes that for each writer, by its own clock.
func written(lease *coordinationv1.Lease) (last time.Time) {
	for _, entry := range lease.ManagedFields {
		if entry.Time != nil && entry.Time.After(last) {
			last = entry.Time.Time
		}
	}
	if last.IsZero() && lease.Spec.RenewTime != nil {
		last = lease.Spec.RenewTime.Time
	}
	return last
}

// Holding is what the claim Lease of a VIP tells people.
type Holding struct {
	Owner Owner
	// Since is when the owner got it, by the clock of whoever wrote that.
	Since time.Time
	// Previous is the node that had it before, Reason why it moved. Both are empty if they are not known.
	Previous, Reason string
}

// ReadClaim reads the claim Lease of a VIP: its owner may be one by the will of who held it when it died.
func ReadClaim(lease *coordinationv1.Lease, wills Wills) Holding {
	if lease == nil {
		return Holding{}
	}
	vip, claim := strings.TrimPrefix(lease.Name, claimPrefix), readClaim(lease)
	out := Holding{Owner: claim.Owner, Previous: lease.Annotations[AnnotationPrevious], Reason: lease.Annotations[AnnotationReason]}
	if at := lease.Spec.AcquireTime; at != nil {
		out.Since = at.Time
	}
	for _, testator := range wills.testators(vip, claim) {
		will := wills[testator]
		out.Owner = will.Heirs[vip]
		if out.Owner.Node != testator.Node { // else the node keeps it under its next epoch
			out.Since, out.Previous, out.Reason = will.Written, testator.Node, will.Reason
		}
	}
	return out
}

// Read adds the wills in the heartbeat Lease of a node's speaker.
func (w Wills) Read(node string, lease *coordinationv1.Lease) error {
	wills, err := decodeWills(node, lease)
	maps.Copy(w, wills)
	return err
}
