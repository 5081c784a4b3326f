package election

import (
	"fmt"
	"maps"
	"strings"
	"time"
)

// renew writes the heartbeat. An incarnation that was revoked begins a new epoch.
func (s *sim) renew(n *simNode, bequest []Move) {
	if n.busy[n.name] {
		return
	}
	started := s.clock(n)
	n.view.Attempted = started
	if n.cut || s.apiOut {
		// Refused at once or never answered: the request is given up after TSelf then.
		s.after(time.Duration(s.rng.IntN(2))*s.timing.TSelf, func() { n.view.Failed = max(n.view.Failed, started) })
		return
	}
	current := s.store[n.name]
	if !n.view.Registered {
		n.epochs++
		n.view.Self.Epoch = fmt.Sprintf("e%d", n.epochs)
	}
	self := n.view.Self
	next := stored{owner: self, wills: n.willsOf(current)}
	expected, registered := current.version, n.view.Registered
	if registered && current.owner != self {
		expected = -1 // this node's write knows an older version: a conflict
	}
	if len(bequest) > 0 && registered {
		s.bequeath(n, bequest, &next)
	}
	s.write(n, n.name, next, expected, func(ok bool) {
		if n.view.Self != self && n.view.Self != next.owner {
			return
		}
		if now := s.store[n.name]; registered && (!ok || next.owner != self) {
			if now.owner == n.view.Self { // a write of its own was slow, or the watch fast
				n.successor = Owner{}
			}
			n.heed(n.name, now, s.clock(n))
			n.observeOwn(now, s.clock(n))
			if !ok || !n.view.Registered {
				return
			}
		}
		if !ok {
			n.view.Registered, n.view.Lost = false, s.clock(n)
			return
		}
		n.successor = Owner{}
		if n.view.Failed > n.view.Renewed && started > n.view.Failed {
			n.view.Resumed = s.clock(n)
		}
		if !n.view.Registered { // its own wills it knows from what it wrote this on
			n.heed(n.name, current, s.clock(n))
		}
		n.view.Registered, n.view.Renewed = true, started
		if s.setup.broken.countFromResponse {
			n.view.Renewed = s.clock(n)
		}
	})
}

// revoke ends the epoch of a dead speaker.
func (s *sim) revoke(n *simNode, dead Revocation) {
	wills := n.willsOf(s.store[dead.Node])
	wills[dead.Owner] = Will{Heirs: dead.Heirs}
	s.write(n, dead.Node, stored{wills: wills}, n.versionOf(dead.Node), func(ok bool) {
		if ok && s.setup.broken.willsUnwatched {
			n.see(dead.Node, s.store[dead.Node], s.clock(n))
		}
	})
}

// willsOf is what a node knows to be still needed of the wills of a heartbeat.
func (n *simNode) willsOf(lease stored) Wills {
	out := Wills{}
	for testator, will := range lease.wills {
		_, known := n.wills[testator]
		if _, still := n.wills.needed(testator.Node, n.view.Claims)[testator]; still || !known {
			out[testator] = will
		}
	}
	return out
}

// bequeath makes a renewal one that ends the epoch and gives VIPs to others.
func (s *sim) bequeath(n *simNode, bequest []Move, next *stored) {
	if n.successor == (Owner{}) {
		n.epochs++
		n.successor = Owner{n.name, fmt.Sprintf("e%d", n.epochs)}
	}
	will := Will{Heirs: map[string]Owner{}}
	for vip, claim := range n.view.Claims {
		if claim.Owner == n.view.Self {
			will.Heirs[vip] = n.successor
		}
	}
	for _, move := range bequest {
		if _, has := will.Heirs[move.VIP]; has {
			will.Heirs[move.VIP] = move.To
			n.view.Handed[move.VIP] = s.clock(n)
		}
	}
	next.owner, next.wills[n.view.Self] = n.successor, will
}

// write is a compare-and-swap with a way there and a way back.
func (s *sim) write(n *simNode, key string, next stored, expected int, answered func(ok bool)) {
	if n.busy[key] {
		return
	}
	if n.cut || s.apiOut {
		n.view.Failed = max(n.view.Failed, s.clock(n))
		return
	}
	n.busy[key] = true
	started := s.clock(n)
	s.after(s.delay(), func() {
		if n.cut || s.apiOut { // refused: that is no conflict, whoever is there again when it comes back
			n.busy[key], n.view.Failed = false, max(n.view.Failed, started)
			return
		}
		current := s.store[key]
		ok := current.version == expected
		if ok {
			s.latest++
			next.revoked, next.version, next.written = current.revoked, s.latest, s.clock(n)
			if next.owner.Epoch == "" || next.owner.Node == current.owner.Node && next.owner != current.owner && current.owner.Epoch != "" {
				next.revoked = current.owner.Epoch
			}
			for testator, will := range next.wills {
				if will.Version == 0 {
					will.Version = uint64(s.latest)
					next.wills[testator] = will
				}
			}
			if strings.HasPrefix(key, "vip/") && current.owner.Node != "" && current.owner.Node != next.owner.Node {
				s.takeovers++
			}
			s.store[key] = next
			s.publish(key)
		}
		s.after(s.delay(), func() {
			n.busy[key] = false
			if n.down || n.cut || s.apiOut {
				return
			}
			if n.view.Answered = s.clock(n); answered != nil {
				answered(ok)
			}
		})
	})
}

// delivery of what the watch brings.
type delivery struct {
	at time.Duration
	do func()
}

// publish tells every node, some later than others, and each in the order of versions.
func (s *sim) publish(key string) {
	now := s.store[key]
	for _, n := range s.nodes {
		at := s.now + s.delay()
		if waiting := len(n.inbox); waiting > 0 {
			at = max(at, n.inbox[waiting-1].at)
		}
		n.inbox = append(n.inbox, delivery{at, func() {
			at := s.clock(n)
			if s.setup.broken.wallClocks {
				at = now.written
			}
			if s.setup.broken.heedTheDead {
				now.author = Owner{}
			}
			n.see(key, now, at)
		}})
		s.after(at-s.now, func() { s.deliver(n) })
	}
}

// deliver brings a node what is due, or later if nothing reaches it now.
func (s *sim) deliver(n *simNode) {
	if n.down || n.cut || s.apiOut {
		s.after(100*time.Millisecond, func() { s.deliver(n) })
		return
	}
	for len(n.inbox) > 0 && n.inbox[0].at <= s.now {
		next := n.inbox[0]
		n.inbox = n.inbox[1:]
		next.do()
	}
}

func (n *simNode) see(key string, lease stored, at Instant) {
	if lease.version <= n.versionOf(key) {
		return
	}
	version := fmt.Sprint(lease.version)
	if vip, isClaim := strings.CutPrefix(key, "vip/"); isClaim {
		claim := Claim{Written: lease.owner, Author: lease.author, Version: version, Seen: at}
		claim.Owner = n.wills.owner(vip, claim)
		n.view.Claims[vip] = claim
		return
	}
	n.heed(key, lease, at)
	if key == n.name {
		n.observeOwn(lease, at)
		return
	}
	peer := Peer{
		Owner: Owner{Node: key, Epoch: lease.owner.Epoch}, Revoked: lease.revoked,
		Version: version, VersionSeen: at, EpochSeen: at,
	}
	if old, known := n.view.Peers[key]; known && old.Epoch == peer.Epoch {
		peer.EpochSeen = old.EpochSeen
	}
	n.view.Peers[key] = peer
}

// observeOwn finds out that a node's heartbeat is that of its next epoch, or was revoked. An older one than it knows, from the answer
// to a write, it passes over.
func (n *simNode) observeOwn(lease stored, at Instant) {
	if lease.version < n.own {
		return
	}
	n.own = lease.version
	if n.successor != (Owner{}) && lease.owner == n.successor {
		n.view.Self, n.successor = n.successor, Owner{}
	}
	if n.view.Registered && lease.owner != n.view.Self {
		n.view.Registered, n.view.Lost, n.successor = false, at, Owner{}
	}
}

// heed takes in the wills of a heartbeat.
func (n *simNode) heed(node string, lease stored, at Instant) {
	if lease.version <= n.heeded[node] {
		return
	}
	n.heeded[node] = lease.version
	maps.DeleteFunc(n.wills, func(testator Owner, _ Will) bool { return testator.Node == node })
	maps.Copy(n.wills, lease.wills)
	for vip, claim := range n.view.Claims {
		if owner := n.wills.owner(vip, claim); owner != claim.Owner {
			claim.Owner, claim.Seen = owner, at
			n.view.Claims[vip] = claim
		}
	}
}

// serving are the nodes that have a VIP bound at this very moment, by the right of their own renewals or held on to. A node
// that is down keeps it for as long as the kernel's fence does: until its right ends on its own clock.
func (s *sim) serving(vip string) (nodes []*simNode) {
	for _, n := range s.nodes {
		if s.clock(n) < n.view.Until && n.view.Registered && n.hold[vip] && !s.outdated(n, vip) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// outdated: what a node decided last is a moment old. A claim that it has seen go since then is none.
func (s *sim) outdated(n *simNode, vip string) bool {
	return n.view.Claims[vip].Owner != n.view.Self && !n.leaving[vip]
}

// announcing are those of them that may announce it.
func (s *sim) announcing(vip string) (nodes []*simNode) {
	for _, n := range s.serving(vip) {
		if !n.leaving[vip] {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func names(nodes []*simNode) (out []string) {
	for _, n := range nodes {
		out = append(out, n.name)
	}
	return out
}
