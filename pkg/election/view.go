// Package election decides which node holds a VIP, by two kinds of Lease: a heartbeat for every speaker, renewed while it
// lives, and a claim for every VIP, written only when its owner changes.
//
// Decide is a pure function of what a speaker sees and of its own clock. It gives the right to announce a VIP to one node at
// a time as long as clock rates differ by less than TTake/TSelf: the right lasts TSelf from the start of the owner's last
// successful renewal, and others take a VIP only after they saw the owner's heartbeat unchanged for TTake and revoked it by
// compare-and-swap on the version they saw. Times that other machines recorded are never read.
//
// Elector is the edge: it keeps the view from Lease informers and carries out what Decide says. The package never touches
// the datapath, and it does not promise that a VIP has a holder: while the API server is out of reach, rights lapse.
package election

import "time"

// Instant is a time on this machine's clock since boot, suspended time included (CLOCK_BOOTTIME). Instants of different
// machines cannot be compared.
type Instant time.Duration

// Sub is the time from other to t.
func (t Instant) Sub(other Instant) time.Duration { return time.Duration(t - other) }

// Add is the instant d after t.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Timing holds the protocol's durations. All speakers of a cluster must have the same.
type Timing struct {
	// TSelf is how long a successful renewal gives the right to announce, counted from its start.
	TSelf time.Duration
	// TTake is how long a heartbeat must have been unchanged before it may be revoked. TTake/TSelf bounds by how much
	// clock rates may differ.
	TTake time.Duration
	// RenewEvery is the time between renewals of a speaker that owns a claim.
	RenewEvery time.Duration
	// IdleRenewEvery is the same for one that owns none.
	IdleRenewEvery time.Duration
	// IdleExpiry is when a speaker without claims that no longer renews stops being a candidate.
	IdleExpiry time.Duration
	// StepDelay is how long each candidate waits for the one before it in the order of a VIP's candidates to claim it.
	StepDelay time.Duration
	// RevokeDelay is the same among those who would revoke a heartbeat.
	RevokeDelay time.Duration
}

// DefaultTiming is what speakers use.
func DefaultTiming() Timing {
	return Timing{
		TSelf:          3 * time.Second,
		TTake:          4 * time.Second,
		RenewEvery:     time.Second,
		IdleRenewEvery: 10 * time.Second,
		IdleExpiry:     32 * time.Second, // three renewals may get lost
		StepDelay:      time.Second,
		RevokeDelay:    200 * time.Millisecond,
	}
}

// Owner is one incarnation of a node's speaker. The zero Owner is nobody.
type Owner struct {
	Node  string
	Epoch string // empty: the heartbeat is revoked
}

// Peer is a speaker as its heartbeat Lease shows it.
type Peer struct {
	Owner
	// Revoked is the epoch that was revoked last, while no new one began.
	Revoked string
	// Version is the resourceVersion last seen, empty when the Lease is gone.
	Version string
	// VersionSeen and EpochSeen are when this speaker first saw that version, and that epoch.
	VersionSeen, EpochSeen Instant
}

// Claim is a VIP's claim Lease.
type Claim struct {
	Owner Owner
	// Version is the resourceVersion, empty when the Lease does not exist.
	Version string
	// Seen is when this speaker first saw this version, or first missed the Lease.
	Seen Instant
}

// VIP is a VIP that exists, with the nodes that may hold it.
type VIP struct {
	Name string
	// Seen is when this speaker first saw the VIP.
	Seen Instant
	// Candidates are the names of the nodes that may hold it as far as Nodes and interfaces tell; whether their
	// speakers live is for Decide to say.
	Candidates []string
}

// View is what one speaker sees.
type View struct {
	Self Owner
	// Registered is false until this speaker has written its heartbeat.
	Registered bool
	// Renewed is the start of the last renewal that succeeded.
	Renewed Instant
	// Attempted is the start of the last renewal, whatever became of it.
	Attempted Instant
	// Peers are the other speakers by node.
	Peers map[string]Peer
	// Claims by name of the VIP. Claims of VIPs that are gone are here too.
	Claims map[string]Claim
	// VIPs that exist, in the order of their names.
	VIPs []VIP
}

// Decision is what a speaker should do now.
type Decision struct {
	// Hold names the VIPs that this node has the right to announce until Until.
	Hold  []string
	Until Instant
	// Renew says to renew the heartbeat now.
	Renew bool
	// Revoke are the heartbeats to revoke, each only if it still has the version that was seen.
	Revoke []Peer
	// Claim names the VIPs to claim, each only if its claim still has the version in the view.
	Claim []string
	// Delete names the VIPs whose claims to delete, once the datapath has let them go.
	Delete []string
	// Alive are the nodes whose speakers live, this one among them.
	Alive map[string]bool
	// Wake is when to decide again if nothing changes.
	Wake Instant
}
