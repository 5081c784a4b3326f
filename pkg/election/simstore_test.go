package election

import (
	"fmt"
	"strings"
	"time"
)

// renew writes the heartbeat. An incarnation that was revoked begins a new epoch.
func (s *sim) renew(n *simNode) {
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
	expected, registered := current.version, n.view.Registered
	if registered && current.owner != self {
		expected = -1 // this node's write knows an older version: a conflict
	}
	s.write(n, n.name, self, expected, func(ok bool) {
		if n.view.Self != self {
			return
		}
		if !ok {
			n.view.Registered, n.view.Lost = false, s.clock(n)
			return
		}
		if n.view.Failed > n.view.Renewed && started > n.view.Failed {
			n.view.Resumed = s.clock(n)
		}
		n.view.Registered, n.view.Renewed = true, started
		if s.setup.broken.countFromResponse {
			n.view.Renewed = s.clock(n)
		}
	})
}

// write is a compare-and-swap with a way there and a way back.
func (s *sim) write(n *simNode, key string, owner Owner, expected int, answered func(ok bool)) {
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
			next := stored{owner: owner, revoked: current.revoked, version: current.version + 1, written: s.clock(n)}
			if owner.Epoch == "" {
				next.revoked = current.owner.Epoch
			}
			if strings.HasPrefix(key, "vip/") && current.owner.Node != "" && current.owner.Node != owner.Node {
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

// publish tells every node, some later than others, and each in the order of versions.
func (s *sim) publish(key string) {
	now := s.store[key]
	for _, n := range s.nodes {
		var tell func()
		tell = func() {
			if n.down || n.cut || s.apiOut {
				s.after(100*time.Millisecond, tell)
				return
			}
			at := s.clock(n)
			if s.setup.broken.wallClocks {
				at = now.written
			}
			n.see(key, now, at)
		}
		s.after(s.delay(), tell)
	}
}

func (n *simNode) see(key string, lease stored, at Instant) {
	if lease.version <= n.versionOf(key) {
		return
	}
	version := fmt.Sprint(lease.version)
	if vip, isClaim := strings.CutPrefix(key, "vip/"); isClaim {
		n.view.Claims[vip] = Claim{Owner: lease.owner, Version: version, Seen: at}
		return
	}
	if key == n.name {
		if n.view.Registered && lease.owner != n.view.Self {
			n.view.Registered, n.view.Lost = false, at
		}
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
