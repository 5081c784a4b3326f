package election

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// What Leases of speakers look like: holderIdentity is "node/epoch", a label tells the two kinds apart.
const (
	// LabelLease marks Leases of speakers, with the kind as its value.
	LabelLease = v1alpha1.GroupName + "/lease"
	// KindHeartbeat and KindClaim are the two kinds.
	KindHeartbeat = "heartbeat"
	KindClaim     = "claim"

	annotationSpeaker   = v1alpha1.GroupName + "/speaker"
	annotationRevokedBy = v1alpha1.GroupName + "/revoked-by"
	annotationRevoked   = v1alpha1.GroupName + "/revoked-epoch"
	// annotationHeirs is who has the VIPs of revoked epochs: see Will.
	annotationHeirs = v1alpha1.GroupName + "/heirs"
	// annotationAuthor is who wrote a claim, as its holderIdentity.
	annotationAuthor = v1alpha1.GroupName + "/written-by"
	// annotationGrace is how long the others shall wait for a speaker that restarts, as Go writes durations.
	annotationGrace = v1alpha1.GroupName + "/restarts-within"

	// AnnotationReason is why a claim changed hands last, or a heartbeat was revoked.
	AnnotationReason = v1alpha1.GroupName + "/reason"
	// AnnotationPrevious is the node that had a claim before.
	AnnotationPrevious = v1alpha1.GroupName + "/previous"

	heartbeatPrefix = "speaker-"
	claimPrefix     = "vip-"
)

// Info is what a speaker tells the others about its node, in an annotation of its heartbeat.
type Info struct {
	// Interfaces that can carry VIPs.
	Interfaces []model.Interface
	// Unfit names the VIPs that this node could not program, in order.
	Unfit []string
}

type wireInfo struct {
	Interfaces map[string][]netip.Prefix `json:"interfaces"`
	MACs       map[string]string         `json:"macs,omitempty"` // by interface
	Unfit      []string                  `json:"unfit,omitempty"`
}

func (i Info) encode() string {
	wire := wireInfo{Interfaces: map[string][]netip.Prefix{}, Unfit: i.Unfit}
	for _, item := range i.Interfaces {
		wire.Interfaces[item.Name] = item.Prefixes
		if item.MAC != "" {
			if wire.MACs == nil {
				wire.MACs = map[string]string{}
			}
			wire.MACs[item.Name] = item.MAC
		}
	}
	text, err := json.Marshal(wire)
	if err != nil {
		return "{}" // strings and prefixes always have a JSON form
	}
	return string(text)
}

func decodeInfo(text string) (Info, error) {
	var wire wireInfo
	if err := json.Unmarshal([]byte(text), &wire); err != nil {
		return Info{}, fmt.Errorf("read annotation %s: %w", annotationSpeaker, err)
	}
	info := Info{Interfaces: []model.Interface{}, Unfit: wire.Unfit}
	for name, prefixes := range wire.Interfaces {
		info.Interfaces = append(info.Interfaces, model.Interface{Name: name, Prefixes: prefixes, MAC: wire.MACs[name]})
	}
	return info, nil
}

// HeartbeatName is the name of the heartbeat Lease of a node's speaker.
func HeartbeatName(node string) string { return heartbeatPrefix + node }

// ClaimName is the name of the claim Lease of a VIP.
func ClaimName(vip string) string { return claimPrefix + vip }

func isClaim(name string) bool { return strings.HasPrefix(name, claimPrefix) }

func (o Owner) identity() *string {
	if o.Epoch == "" {
		return nil
	}
	text := o.Node + "/" + o.Epoch
	return &text
}

func parseOwner(identity *string) Owner {
	if identity == nil {
		return Owner{}
	}
	node, epoch, _ := strings.Cut(*identity, "/")
	return Owner{Node: node, Epoch: epoch}
}

// heartbeat fills in a heartbeat Lease: what it had stays but for what the renewal says. So does what its last revocation said:
// the claims of the epoch that was revoked are free, whatever began since then.
func heartbeat(lease *coordinationv1.Lease, owner Owner, info Info, lasts time.Duration, now metav1.MicroTime) {
	lease.Name = HeartbeatName(owner.Node)
	setLabel(lease, KindHeartbeat)
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[annotationSpeaker] = info.encode()
	delete(lease.Annotations, annotationGrace)
	seconds := int32(lasts / time.Second)
	lease.Spec.LeaseDurationSeconds = &seconds
	lease.Spec.RenewTime = &now
	transfer(lease, owner, now)
}

// restarting marks a heartbeat Lease as that of a speaker whose next process comes soon.
func restarting(lease *coordinationv1.Lease, grace time.Duration) {
	lease.Annotations[annotationGrace] = grace.String()
	seconds := int32(grace / time.Second)
	lease.Spec.LeaseDurationSeconds = &seconds
}

// grace is how long the speaker of a heartbeat Lease asks to be waited for.
func grace(lease *coordinationv1.Lease) time.Duration {
	duration, err := time.ParseDuration(lease.Annotations[annotationGrace])
	if err != nil || lease.Spec.HolderIdentity == nil {
		return 0
	}
	return max(duration, 0)
}

// claim fills in a claim Lease, of which a node was the owner before, until then.
func claim(lease *coordinationv1.Lease, author Owner, previous string, move Move, now metav1.MicroTime) {
	lease.Name = ClaimName(move.VIP)
	setLabel(lease, KindClaim)
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	if previous != move.To.Node {
		lease.Annotations[AnnotationPrevious] = previous
		lease.Annotations[AnnotationReason] = move.Reason
	}
	lease.Annotations[annotationAuthor] = *author.identity()
	transfer(lease, move.To, now)
}

// revoke empties a heartbeat Lease of its holder.
func revoke(lease *coordinationv1.Lease, by, reason string) {
	if lease.Annotations == nil {
		lease.Annotations = map[string]string{}
	}
	lease.Annotations[annotationRevokedBy] = by
	lease.Annotations[AnnotationReason] = reason
	lease.Annotations[annotationRevoked] = parseOwner(lease.Spec.HolderIdentity).Epoch
	lease.Spec.HolderIdentity = nil
}

// readClaim reads what a claim Lease says itself; the owner is what no will says otherwise.
func readClaim(lease *coordinationv1.Lease) Claim {
	claim := Claim{Written: parseOwner(lease.Spec.HolderIdentity), Version: lease.ResourceVersion}
	if author, signed := lease.Annotations[annotationAuthor]; signed {
		claim.Author = parseOwner(&author)
	}
	claim.Owner = claim.Written
	return claim
}

func transfer(lease *coordinationv1.Lease, owner Owner, now metav1.MicroTime) {
	if parseOwner(lease.Spec.HolderIdentity) == owner {
		return
	}
	lease.Spec.HolderIdentity = owner.identity()
	lease.Spec.AcquireTime = &now
	transitions := int32(0)
	if lease.Spec.LeaseTransitions != nil {
		transitions = *lease.Spec.LeaseTransitions + 1
	}
	lease.Spec.LeaseTransitions = &transitions
}

func setLabel(lease *coordinationv1.Lease, kind string) {
	if lease.Labels == nil {
		lease.Labels = map[string]string{}
	}
	lease.Labels[LabelLease] = kind
}

// version is a resourceVersion as a number: since Kubernetes 1.35 versions of one resource are ordered (KEP-5504), and
// before that etcd's were.
func version(text string) uint64 {
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return number
}
