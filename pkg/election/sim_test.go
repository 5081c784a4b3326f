package election

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// sim plays speakers with virtual clocks against one store of Leases. Every message takes its time, and faults strike at
// random: all of it follows from the seed.
type sim struct {
	rng    *rand.Rand
	timing Timing
	broken broken
	now    time.Duration
	queue  events
	order  int
	store  map[string]stored // heartbeats by node, claims by "vip/" + name
	nodes  []*simNode
	vips   []string
}

// broken names a way in which the protocol is broken on purpose.
type broken struct {
	claimWithoutRevoking bool
	countFromResponse    bool
}

type stored struct {
	owner   Owner
	revoked string // epoch
	version int
}

type simNode struct {
	name      string
	view      View
	rate      float64 // of its clock
	offset    time.Duration
	down, cut bool
	busy      map[string]bool
	epochs    int
	until     Instant
}

type event struct {
	at    time.Duration
	order int
	do    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any     { last := (*e)[len(*e)-1]; *e = (*e)[:len(*e)-1]; return last }

func newSim(seed uint64, nodes, vips int, how broken) *sim {
	s := &sim{rng: rand.New(rand.NewPCG(seed, 7)), timing: DefaultTiming(), broken: how, store: map[string]stored{}}
	for i := range vips {
		s.vips = append(s.vips, fmt.Sprintf("10.0.0.%03d", i))
	}
	for i := range nodes {
		node := &simNode{
			name: fmt.Sprintf("n%d", i), busy: map[string]bool{},
			rate:   0.9 + 0.2*s.rng.Float64(), // TTake/TSelf allows for 1.33 between two clocks
			offset: time.Duration(s.rng.Int64N(int64(time.Hour))),
		}
		node.view = View{Self: Owner{Node: node.name}, Peers: map[string]Peer{}, Claims: map[string]Claim{}}
		s.nodes = append(s.nodes, node)
		s.tick(node)
	}
	for _, node := range s.nodes {
		for _, vip := range s.vips {
			node.view.VIPs = append(node.view.VIPs, VIP{Name: vip, Seen: s.clock(node), Candidates: s.names()})
		}
	}
	return s
}

func (s *sim) names() []string {
	var names []string
	for _, node := range s.nodes {
		names = append(names, node.name)
	}
	return names
}

func (s *sim) clock(n *simNode) Instant {
	return Instant(n.offset + time.Duration(float64(s.now)*n.rate))
}

func (s *sim) after(d time.Duration, do func()) {
	s.order++
	heap.Push(&s.queue, event{s.now + d, s.order, do})
}

// delay is a message's time on its way. A slow one is a fault like the others: a renewal that takes longer than TSelf there
// and back rightly gives no right.
func (s *sim) delay() time.Duration {
	if s.now < simFaults && s.rng.IntN(20) == 0 {
		return time.Duration(s.rng.Int64N(int64(2 * time.Second)))
	}
	return time.Duration(s.rng.Int64N(int64(60 * time.Millisecond)))
}

// tick lets a node decide again and again.
func (s *sim) tick(n *simNode) {
	s.after(time.Duration(s.rng.Int64N(int64(200*time.Millisecond))), func() {
		if !n.down {
			s.step(n)
		}
		s.tick(n)
	})
}

func (s *sim) step(n *simNode) {
	view := n.view
	if s.broken.claimWithoutRevoking {
		view.Peers = map[string]Peer{}
		for name, peer := range n.view.Peers {
			if s.clock(n).Sub(peer.VersionSeen) > s.timing.TSelf/2 { // impatient, and without revoking
				peer.Epoch, peer.Revoked = "", peer.Epoch
			}
			view.Peers[name] = peer
		}
	}
	decision := Decide(s.clock(n), s.timing, view)
	n.until = decision.Until
	if decision.Renew {
		s.renew(n)
	}
	for _, peer := range decision.Revoke {
		s.write(n, peer.Node, Owner{}, n.versionOf(peer.Node), nil)
	}
	for _, vip := range decision.Claim {
		s.write(n, "vip/"+vip, n.view.Self, n.versionOf("vip/"+vip), nil)
	}
}

func (n *simNode) versionOf(key string) int {
	var version string
	if len(key) > 4 && key[:4] == "vip/" {
		version = n.view.Claims[key[4:]].Version
	} else {
		version = n.view.Peers[key].Version
	}
	number := 0
	_, _ = fmt.Sscan(version, &number)
	return number
}

// renew writes the heartbeat. An incarnation that was revoked begins a new epoch.
func (s *sim) renew(n *simNode) {
	started := s.clock(n)
	n.view.Attempted = started
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
			n.view.Registered = false
			return
		}
		n.view.Registered, n.view.Renewed = true, started
		if s.broken.countFromResponse {
			n.view.Renewed = s.clock(n)
		}
	})
}

// write is a compare-and-swap with a way there and a way back.
func (s *sim) write(n *simNode, key string, owner Owner, expected int, answered func(ok bool)) {
	if n.busy[key] || n.cut {
		return
	}
	n.busy[key] = true
	s.after(s.delay(), func() {
		current := s.store[key]
		ok := current.version == expected && !n.cut
		if ok {
			next := stored{owner: owner, version: current.version + 1}
			if owner.Epoch == "" {
				next.revoked = current.owner.Epoch
			}
			s.store[key] = next
			s.publish(key)
		}
		s.after(s.delay(), func() {
			n.busy[key] = false
			if answered != nil && !n.down && !n.cut {
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
			if n.down || n.cut {
				s.after(100*time.Millisecond, tell)
				return
			}
			n.see(key, now, s.clock(n))
		}
		s.after(s.delay(), tell)
	}
}

func (n *simNode) see(key string, lease stored, at Instant) {
	if lease.version <= n.versionOf(key) {
		return
	}
	version := fmt.Sprint(lease.version)
	if len(key) > 4 && key[:4] == "vip/" {
		n.view.Claims[key[4:]] = Claim{Owner: lease.owner, Version: version, Seen: at}
		return
	}
	if key == n.name {
		if n.view.Registered && lease.owner != n.view.Self {
			n.view.Registered = false
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

// holders are the nodes with the right to announce a VIP at this very moment. A node that is down keeps it for as long as
// the kernel's fence does: until the right ends on its own clock.
func (s *sim) holders(vip string) (nodes []string) {
	for _, n := range s.nodes {
		claim := n.view.Claims[vip]
		if n.view.Registered && claim.Owner == n.view.Self && claim.Owner.Epoch != "" &&
			s.clock(n) < n.view.Renewed.Add(s.timing.TSelf) {
			nodes = append(nodes, n.name)
		}
	}
	return nodes
}

// fault strikes or mends one node now and then.
func (s *sim) faults(until time.Duration) {
	s.after(time.Duration(s.rng.Int64N(int64(4*time.Second))), func() {
		if s.now > until {
			for _, n := range s.nodes {
				n.down, n.cut = false, false
			}
			return
		}
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		switch s.rng.IntN(3) {
		case 0:
			n.down = !n.down // frozen, later thawed with all that it believed
		case 1:
			n.cut = !n.cut
		case 2:
			n.down, n.cut = false, false
		}
		s.faults(until)
	})
}

// run plays for a while and returns the first moment at which two nodes had the right to announce one VIP.
func (s *sim) run(until time.Duration) error {
	for len(s.queue) > 0 && s.now < until {
		next := heap.Pop(&s.queue).(event)
		s.now = next.at
		next.do()
		for _, vip := range s.vips {
			if nodes := s.holders(vip); len(nodes) > 1 {
				return fmt.Errorf("at %v %v may all announce %s", s.now, nodes, vip)
			}
		}
	}
	return nil
}

const simFaults, simEnd = 90 * time.Second, 150 * time.Second

func TestNoTwoNodesHaveTheRightToAnnounceOneVIP(t *testing.T) {
	runs := uint64(40)
	if text := os.Getenv("FAIRLEAD_SIM_RUNS"); text != "" {
		var err error
		if runs, err = strconv.ParseUint(text, 10, 32); err != nil {
			t.Fatal(err)
		}
	}
	for seed := range runs {
		s := newSim(seed, 3+int(seed%3), 4, broken{})
		s.faults(simFaults)
		if err := s.run(simEnd); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, vip := range s.vips {
			if nodes := s.holders(vip); len(nodes) != 1 {
				t.Errorf("seed %d: a minute after the last fault %s is held by %v, not by one node", seed, vip, nodes)
			}
		}
	}
}

func TestBreakingTheProtocolIsNoticed(t *testing.T) {
	for name, how := range map[string]broken{
		"claims are taken without revoking the heartbeat": {claimWithoutRevoking: true},
		"a renewal counts from its response":              {countFromResponse: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(2000) {
				s := newSim(seed, 4, 4, how)
				s.faults(simFaults)
				if err := s.run(simEnd); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("2000 schedules found no moment with two holders")
		})
	}
}
