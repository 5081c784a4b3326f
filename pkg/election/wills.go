package election

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
)

// Will is what the revocation of an epoch says of its VIPs: who has each next. It is part of that one write, so that however many
// VIPs a dead node had, they change hands together and at once; their claims are written to the heirs when there is time.
//
// Who owns a VIP follows from what the API server has at one version, by the rules of Wills.owner. Everybody who watches sees those
// versions in their order, and nobody goes by a will before the watch brought it: so what it was written in ignorance of is known to
// whoever reads it, and what the dead one wrote later is void.
type Will struct {
	// Heirs have the VIPs, by the names of those.
	Heirs map[string]Owner
	// Reason is why the epoch was revoked, Written when, by the clock of whoever did that. Both are for people.
	Reason  string
	Written time.Time
	// Version is the resourceVersion of the heartbeat since it says so.
	Version uint64
}

// Wills of epochs that were revoked.
type Wills map[Owner]Will

// owner is who owns a claim.
func (w Wills) owner(vip string, claim Claim) Owner {
	if testators := w.testators(vip, claim); len(testators) > 0 {
		return w[testators[len(testators)-1]].Heirs[vip]
	}
	return claim.Written
}

// testators are those by whose wills a claim's owner has it: nobody, the one that the claim was written for, or heirs that were
// revoked themselves after that. What a testator itself wrote of the VIP later than its will was under way when it was revoked, and
// counts for nothing.
func (w Wills) testators(vip string, claim Claim) (out []Owner) {
	if len(w) == 0 {
		return nil
	}
	owner := claim.Written
	if will, revoked := w[claim.Author]; revoked && version(claim.Version) > will.Version {
		owner = claim.Author
	}
	for range len(w) {
		heir, names := w[owner].Heirs[vip]
		if !names {
			break
		}
		owner, out = heir, append(out, owner)
	}
	return out
}

// wireWill is a Will in the annotation of a heartbeat, which has one for each epoch that still has claims.
type wireWill struct {
	Heirs   map[string][]string `json:"heirs"` // VIPs by the identity of who has them
	Reason  string              `json:"reason,omitempty"`
	Written time.Time           `json:"written"`
	// Version is empty as long as the heartbeat's own is that.
	Version string `json:"version,omitempty"`
}

// decodeWills reads the wills of a node's epochs.
func decodeWills(node string, lease *coordinationv1.Lease) (Wills, error) {
	text := lease.Annotations[annotationHeirs]
	if text == "" {
		return nil, nil
	}
	var wire map[string]wireWill
	if err := json.Unmarshal([]byte(text), &wire); err != nil {
		return nil, fmt.Errorf("read annotation %s: %w", annotationHeirs, err)
	}
	wills := Wills{}
	for epoch, will := range wire {
		out := Will{Heirs: map[string]Owner{}, Reason: will.Reason, Written: will.Written, Version: version(will.Version)}
		if will.Version == "" {
			out.Version = version(lease.ResourceVersion)
		}
		for identity, vips := range will.Heirs {
			for _, vip := range vips {
				out.Heirs[vip] = parseOwner(&identity)
			}
		}
		wills[Owner{Node: node, Epoch: epoch}] = out
	}
	return wills, nil
}

// maxHeirs bounds what one will says, in bytes: some 4,000 names. Two of them fit into the 256 KiB that an object's annotations may
// have. Who dies with more VIPs leaves the rest to whoever claims them, one by one.
const maxHeirs = 80 << 10

// willSize is what a VIP takes of that.
func willSize(vip string) int { return len(vip) + len(`"",`) }

// fit reports whether a heartbeat may have all of some wills.
func (w Wills) fit() bool {
	size := 0
	for _, will := range w {
		for vip := range will.Heirs {
			size += willSize(vip)
		}
	}
	return size <= 2*maxHeirs
}

// writeWills makes a heartbeat tell what is left of a node's wills. One without a version is that of the write which this is for.
func writeWills(lease *coordinationv1.Lease, wills Wills) {
	delete(lease.Annotations, annotationHeirs)
	wire := map[string]wireWill{}
	for testator, will := range wills {
		out := wireWill{Heirs: map[string][]string{}, Reason: will.Reason, Written: will.Written}
		if will.Version > 0 {
			out.Version = strconv.FormatUint(will.Version, 10)
		}
		for _, vip := range slices.Sorted(maps.Keys(will.Heirs)) {
			identity := *will.Heirs[vip].identity()
			out.Heirs[identity] = append(out.Heirs[identity], vip)
		}
		wire[testator.Epoch] = out
	}
	if len(wire) == 0 {
		return
	}
	if text, err := json.Marshal(wire); err == nil { // strings and times always have a JSON form
		lease.Annotations[annotationHeirs] = string(text)
	}
}

// needed are those of a node's wills by which VIPs have owners. Where there are none left, none come any more.
func (w Wills) needed(node string, claims map[string]Claim) Wills {
	out := Wills{}
	for vip, claim := range claims {
		for _, testator := range w.testators(vip, claim) {
			if testator.Node == node {
				out[testator] = w[testator]
			}
		}
	}
	return out
}
