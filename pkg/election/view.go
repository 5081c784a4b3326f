// Package election decides which node holds a VIP, by two kinds of Lease: a heartbeat for every speaker, renewed while it
// lives, and a claim for every VIP, written only when its owner changes.
//
// Decide is a pure function of what a speaker sees and of its own clock. It gives the right to announce a VIP to one node at
// a time as long as clock rates differ by less than TTake/TSelf: the right lasts TSelf from the start of the owner's last
// successful renewal, and others take a VIP only after they saw the owner's heartbeat unchanged for TTake and revoked it by
// compare-and-swap on the version they saw. Times that other machines recorded are never read.
//
// Two things trade some of that for availability, and can be turned off. What the speakers' own network tells of a dead peer
// lets others revoke its heartbeat at once: the Lease stays the only arbiter of who is next, and if the peer lived after all,
// cut off from everybody, both announce for TSelf at most. And under the policy Hold a holder keeps its VIPs while the API
// server answers neither it nor those it reaches.
//
// Elector is the edge: it keeps the view from Lease informers and carries out what Decide says. The package never touches
// the datapath.
package election

import (
	"maps"
	"slices"
	"time"
)

// Instant is a time on this machine's clock since boot, suspended time included (CLOCK_BOOTTIME). Instants of different
// machines cannot be compared.
type Instant time.Duration

// Sub is the time from other to t.
func (t Instant) Sub(other Instant) time.Duration { return time.Duration(t - other) }

// Add is the instant d after t.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Timing holds the protocol's durations and limits. All speakers of a cluster must have the same.
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
	// StepDelay is how long each candidate waits for the one before it in the order of a VIP's candidates to claim it, or any
	// other VIP: one that takes over many has not come to all of them at once.
	StepDelay time.Duration
	// RevokeDelay is the same among those who would revoke a heartbeat. It saves the API server requests that conflict, one of each
	// speaker at most, and no more: who comes first in the order need not be the first to find out.
	RevokeDelay time.Duration
	// LateAfter is when the heartbeat of an owner counts as late. It is what a speaker that does not reach most others wants to
	// see before it believes its own network that a peer is dead.
	LateAfter time.Duration
	// AskEvery is how often a speaker that the API server does not answer asks the others whether it answers them.
	AskEvery time.Duration
	// HandLeast is how long one that handed a VIP over keeps it at least from when it first hears the other announce it: until the
	// other has announced it several times, because a neighbour that just learnt an address does not heed the first (see package
	// announce). It lets go when it hears the next announcement, or HandLimit after it last heard the other announce any VIP that
	// it got: who gets many takes its time for all.
	HandLeast, HandLimit time.Duration
	// HandSingly is how many VIPs a speaker hands over at most by a write of the claim of each: see bequeath for more.
	HandSingly int
	// HoldFor is how long after the API server answers it again a speaker waits before it holds an owner dead whose heartbeat it
	// sees unchanged: so long do holders go on by its word that it lacks the API server, and may stand still meanwhile.
	HoldFor time.Duration
	// RestartGrace is how long the others wait for the next process of a speaker that said that it restarts.
	RestartGrace time.Duration
}

// Policy says what becomes of the VIPs of a live holder that the API server does not answer.
type Policy string

// Policies.
const (
	// Hold keeps them as long as the peers that it reaches, half of all at least, lack the API server too.
	Hold Policy = "Hold"
	// Release lets them go once the right has lapsed.
	Release Policy = "Release"
)

// DefaultTiming is what speakers use.
func DefaultTiming() Timing {
	return Timing{
		TSelf:          3 * time.Second,
		TTake:          4500 * time.Millisecond,
		RenewEvery:     time.Second,
		IdleRenewEvery: 10 * time.Second,
		IdleExpiry:     32 * time.Second, // three renewals may get lost
		StepDelay:      time.Second,
		RevokeDelay:    50 * time.Millisecond,   // some writes of a Lease
		LateAfter:      1600 * time.Millisecond, // a renewal may take 600 ms
		AskEvery:       500 * time.Millisecond,
		HandLeast:      2 * time.Second,
		HandLimit:      5 * time.Second,
		HandSingly:     16, // as many as are written at once
		HoldFor:        10 * time.Second,
		RestartGrace:   30 * time.Second, // a pod is replaced within that, its image pulled
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
	// Revoked is the epoch that was revoked last, before a new one began.
	Revoked string
	// RevokedFor is why, as the one that did it said.
	RevokedFor string
	// Version is the resourceVersion last seen, empty when the Lease is gone.
	Version string
	// Grace is how long it asked to be waited for when it restarted; 0 while it runs.
	Grace time.Duration
	// VersionSeen and EpochSeen are when this speaker first saw that version, and that epoch, or that the next process of the
	// node goes on with it: what was found of the one before does not count for it.
	VersionSeen, EpochSeen Instant
}

// Reach is what the speakers' own network tells of a peer: see package gossip.
type Reach struct {
	Alive bool
	// Dead is since when it answers nobody, nor a direct probe; 0 while it does.
	Dead Instant
	// Refused is with Dead: its machine refuses connections, so that only the process ended.
	Refused bool
	// Alone is with Dead: most others did not answer either when that was found, so that it may be this node that is cut off.
	Alone bool
	// HasAPI is whether the API server answers it, as it said to a question sent at Said (0: it was never asked).
	HasAPI bool
	Said   Instant
	// Spared is, with an answer of no, the epoch of this speaker that the peer cannot have revoked: see View.Spares.
	Spared string
}

// Claim is a VIP's claim Lease.
type Claim struct {
	// Owner has the VIP: the one that the claim was written for or, if that one was revoked, whom its will names (Wills).
	Owner Owner
	// Written is whom the claim was written for, Author who wrote it.
	Written, Author Owner
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
	// Weights prefers candidates: only those with the most are chosen while they live. Missing ones weigh 0.
	Weights map[string]int
	// MoveTo names the node that somebody wants to hold it.
	MoveTo string
	// Leave is why this node may not hold it, if it may not.
	Leave string
}

// equal compares all but when they were seen.
func (v VIP) equal(o VIP) bool {
	return v.Name == o.Name && slices.Equal(v.Candidates, o.Candidates) && maps.Equal(v.Weights, o.Weights) &&
		v.MoveTo == o.MoveTo && v.Leave == o.Leave
}

// View is what one speaker sees.
type View struct {
	Self Owner
	// Registered is false until this speaker has written its heartbeat.
	Registered bool
	// Lost is when this speaker learnt that its epoch had been revoked; 0: never.
	Lost Instant
	// Renewed is the start of the last renewal that succeeded.
	Renewed Instant
	// Attempted is the start of the last renewal, whatever became of it.
	Attempted Instant
	// Failed is the start of the last request that the API server did not answer.
	Failed Instant
	// Answered is when the API server last answered any request of this speaker's.
	Answered Instant
	// Resumed is when it answered again after it had not. What was not seen to change before that may have changed.
	Resumed Instant
	// Until is what the last decision said: see takeUp for what becomes of a right that has ended.
	Until Instant
	// Ending is set when this speaker gives all up because it ends.
	Ending bool
	Policy Policy
	// Asked is when this speaker last asked its peers whether the API server answers them.
	Asked Instant
	// Reach is what the speakers' network tells of peers, by node; nil without one.
	Reach map[string]Reach
	// Contested are the VIPs that somebody else announced while the API server did not answer this speaker.
	Contested map[string]bool
	// Handed are the VIPs that this node gave to others and keeps for a while, with when it asked for that last.
	Handed map[string]Instant
	// Taken is when this node last heard another one announce a VIP that it had given to it, by the other.
	Taken map[Owner]Instant
	// Inherited is when this speaker last wrote a claim for a VIP that it has by a will.
	Inherited Instant
	// Crowded is when this speaker's heartbeat last had no room for another will.
	Crowded Instant
	// Dropped are the versions of claims, by VIP, that this speaker asked to delete: they may be gone, whether an answer came or not,
	// and give no right any more.
	Dropped map[string]string
	// Peers are the other speakers by node.
	Peers map[string]Peer
	// Claims by name of the VIP. Claims of VIPs that are gone are here too.
	Claims map[string]Claim
	// VIPs that exist, in the order of their names.
	VIPs []VIP
}

// Decision is what a speaker should do now.
type Decision struct {
	// Hold names the VIPs that this node should have until Until: it has the right to announce them, but for those that are
	// also in Leaving.
	Hold  []string
	Until Instant
	// Leaving names those that it has given to another and keeps until that one announces them.
	Leaving []string
	// Unconfirmed says that Until is later than this node's own renewals allow: the policy Hold keeps the VIPs.
	Unconfirmed bool
	// Ask says to ask the peers whether the API server answers them.
	Ask bool
	// Watch names the peers whose silence this node should notice at once, sorted.
	Watch []string
	// Renew says to renew the heartbeat now; with Retry, to give up a renewal that is under way.
	Renew, Retry bool
	// Revoke are the heartbeats to revoke, each only if it still has the version that was seen.
	Revoke []Revocation
	// Claim names the VIPs to claim, each only if its claim still has the version in the view.
	Claim []Move
	// Hand are the VIPs to give to others, in the same way.
	Hand []Move
	// Bequeath, in place of Hand, are VIPs to give to others by the next renewal, which ends this speaker's epoch and begins another: it
	// is one write for all of them.
	Bequeath []Move
	// Inherit is a VIP that this node has by a will, whose claim to write for it next, in the same way.
	Inherit []Move
	// Delete names the VIPs whose claims to delete, once the datapath has let them go.
	Delete []string
	// Alive are the nodes whose speakers live, this one among them.
	Alive map[string]bool
	// Wake is when to decide again if nothing changes.
	Wake Instant
}

// Revocation of a peer's heartbeat.
type Revocation struct {
	Peer
	Reason string
	// Heirs have the VIPs of the epoch, by name, as soon as it is revoked. Those that nobody can have are missing.
	Heirs map[string]Owner
}

// Move of a VIP's claim to an owner.
type Move struct {
	VIP    string
	To     Owner
	Reason string
}
