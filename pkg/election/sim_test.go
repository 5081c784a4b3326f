package election

import (
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// sim plays speakers with virtual clocks against one store of Leases and over a network of their own. Every message takes its
// time, and faults strike as scheduled: all of it follows from the seed.
type sim struct {
	rng    *rand.Rand
	timing Timing
	setup  setup
	now    time.Duration
	queue  events
	order  int
	store  map[string]stored // heartbeats by node, claims by "vip/" + name
	latest int               // version of the whole store
	nodes  []*simNode
	vips   []string
	apiOut bool
	calm   time.Duration // from when on no fault strikes
	struck time.Duration // when the last one did

	takeovers int // claims that changed hands
}

// setup of a play.
type setup struct {
	nodes, vips int
	policy      Policy
	gossip      bool // the speakers' own network is there, with verdicts
	slow        int  // one of so many messages takes up to 2 s while faults strike; 0: none
	broken      broken
}

// broken names a way in which the protocol is broken on purpose.
type broken struct {
	claimWithoutRevoking bool
	countFromResponse    bool
	wallClocks           bool
	heedTheDead          bool // what a speaker wrote after it was revoked counts
	willsUnwatched       bool // who revokes goes by the will at once
}

type stored struct {
	owner, author Owner
	revoked       string // epoch
	wills         Wills  // of the node's epochs
	version       int
	written       Instant // by the writer's clock: only a broken protocol looks at it
}

type simNode struct {
	name        string
	view        View
	rate        float64 // of its clock
	offset      time.Duration
	down        bool // frozen, later thawed with all that it believed
	cut, lanCut bool
	cordoned    bool
	busy        map[string]bool
	epochs      int
	successor   Owner // the next epoch, if a request is under way, or unanswered, that may have begun it
	wills       Wills
	heeded      map[string]int           // versions of heartbeats
	own         int                      // version of its own heartbeat
	inbox       []delivery               // what the watch is to bring, in order
	heard       map[string]time.Duration // when it last heard a peer over the speakers' network
	verdicts    map[string]time.Duration // how long one has to be silent from then on
	reach       map[string]Reach
	hold        map[string]bool // what it has until the right ends
	leaving     map[string]bool
	since       map[string]time.Duration // when it began to announce what it announces
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

func newSim(seed uint64, with setup) *sim {
	s := &sim{rng: rand.New(rand.NewPCG(seed, 7)), timing: DefaultTiming(), setup: with, store: map[string]stored{}}
	if seed%2 == 0 {
		s.timing.HandSingly = 0 // there are few VIPs
	}
	for i := range with.vips {
		s.vips = append(s.vips, fmt.Sprintf("10.0.0.%03d", i))
	}
	for i := range with.nodes {
		node := &simNode{
			name: fmt.Sprintf("n%d", i), busy: map[string]bool{}, wills: Wills{}, heeded: map[string]int{}, heard: map[string]time.Duration{}, verdicts: map[string]time.Duration{}, since: map[string]time.Duration{}, reach: map[string]Reach{},
			rate:   0.9 + 0.2*s.rng.Float64(), // TTake/TSelf allows for 1.33 between two clocks
			offset: time.Duration(s.rng.Int64N(int64(time.Hour))),
		}
		node.view = View{
			Self: Owner{Node: node.name}, Peers: map[string]Peer{}, Claims: map[string]Claim{}, Policy: with.policy,
			Handed: map[string]Instant{}, Dropped: map[string]string{}, Contested: map[string]bool{},
		}
		s.nodes = append(s.nodes, node)
		s.tick(node)
	}
	for _, node := range s.nodes {
		for _, vip := range s.vips {
			node.view.VIPs = append(node.view.VIPs, VIP{Name: vip, Seen: s.clock(node)})
		}
	}
	s.learnCandidates()
	return s
}

// learnCandidates tells all nodes which of them are not cordoned; of all of them if all are.
func (s *sim) learnCandidates() {
	var names, all []string
	for _, node := range s.nodes {
		all = append(all, node.name)
		if !node.cordoned {
			names = append(names, node.name)
		}
	}
	if len(names) == 0 {
		names = all
	}
	for _, node := range s.nodes {
		for i := range node.view.VIPs {
			node.view.VIPs[i].Candidates = names
		}
	}
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
	if s.setup.slow > 0 && s.now < s.calm && s.rng.IntN(s.setup.slow) == 0 {
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
	s.listen(n)
	view := n.view
	if s.setup.broken.claimWithoutRevoking {
		view.Peers = map[string]Peer{}
		for name, peer := range n.view.Peers {
			if s.clock(n).Sub(peer.VersionSeen) > s.timing.TSelf/2 { // impatient, and without revoking
				peer.Epoch, peer.Revoked = "", peer.Epoch
			}
			view.Peers[name] = peer
		}
	}
	for vip, asked := range n.view.Handed {
		if n.view.Claims[vip].Owner != n.view.Self && s.clock(n) > n.view.handLimit(s.timing, vip, asked) {
			delete(n.view.Handed, vip)
		}
	}
	s.overhear(n)
	decision := Decide(s.clock(n), s.timing, view)
	n.view.Until = decision.Until
	n.hold, n.leaving = setOfNames(decision.Hold), setOfNames(decision.Leaving)
	for _, vip := range decision.Hold {
		if _, before := n.since[vip]; !before && !n.leaving[vip] {
			n.since[vip] = s.now
		}
	}
	maps.DeleteFunc(n.since, func(vip string, _ time.Duration) bool { return !n.hold[vip] || n.leaving[vip] })
	if decision.Ask {
		s.ask(n)
	}
	if decision.Renew {
		s.renew(n, decision.Bequeath)
	}
	for _, dead := range decision.Revoke {
		s.revoke(n, dead)
	}
	if len(decision.Inherit) > 0 {
		n.view.Inherited = s.clock(n)
	}
	for _, move := range slices.Concat(decision.Claim, decision.Hand, decision.Inherit) {
		if n.successor != (Owner{}) {
			break // who it is now, it does not know
		}
		if move.To != n.view.Self {
			n.view.Handed[move.VIP] = s.clock(n)
		}
		s.write(n, "vip/"+move.VIP, stored{owner: move.To, author: n.view.Self}, n.versionOf("vip/"+move.VIP), func(ok bool) {
			if ok && move.To == n.view.Self && n.successor == (Owner{}) {
				delete(n.view.Handed, move.VIP)
			}
		})
	}
	for _, vip := range decision.Delete {
		if !n.hold[vip] {
			n.view.Dropped[vip] = n.view.Claims[vip].Version
			s.write(n, "vip/"+vip, stored{author: n.view.Self}, n.versionOf("vip/"+vip), nil)
		}
	}
}

func setOfNames(names []string) map[string]bool {
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}

// listen takes in what the speakers' network tells a node: who is silent for a while is dead, for some sooner than for others,
// and owners, which are watched, sooner than the rest.
func (s *sim) listen(n *simNode) {
	if !s.setup.gossip {
		return
	}
	reach := map[string]Reach{}
	for _, other := range s.nodes {
		if other == n {
			continue
		}
		if !other.down && !other.lanCut && !n.lanCut {
			n.heard[other.name] = s.now
			n.verdicts[other.name] = 400*time.Millisecond + time.Duration(s.rng.Int64N(int64(time.Second)))
			if len(other.hold) == 0 {
				n.verdicts[other.name] += time.Duration(s.rng.Int64N(int64(2 * time.Second)))
			}
		}
		heard, ever := n.heard[other.name]
		if !ever {
			continue
		}
		state := n.reach[other.name]
		state.Alive = s.now-heard < n.verdicts[other.name]
		if state.Alive {
			state.Dead, state.Alone = 0, false
		} else if state.Dead == 0 {
			state.Dead, state.Alone = s.clock(n), s.alone(n, other)
		}
		reach[other.name] = state
	}
	n.reach, n.view.Reach = reach, reach
}

// alone reports whether most of those that a node holds alive, besides one, do not answer it now.
func (s *sim) alone(n, besides *simNode) bool {
	asked, silent := 0, 0
	for _, other := range s.nodes {
		if other == n || other == besides || !n.reach[other.name].Alive {
			continue
		}
		asked++
		if n.heard[other.name] < s.now && (other.down || other.lanCut || n.lanCut) {
			silent++
		}
	}
	return 2*silent > asked
}

// overhear takes in what other nodes of the LAN announce: for some seconds after they began, and every half minute.
func (s *sim) overhear(n *simNode) {
	const burst, refresh = 4400 * time.Millisecond, 30 * time.Second
	if n.view.Failed <= n.view.Renewed {
		clear(n.view.Contested)
		return
	}
	for _, vip := range s.vips {
		for _, other := range s.announcing(vip) {
			if began, known := other.since[vip]; other != n && known && !other.down && !other.lanCut && !n.lanCut {
				if age := s.now - began; age < burst || age%refresh < time.Second {
					n.view.Contested[vip] = true
				}
			}
		}
	}
}

// ask asks the peers that a node reaches whether the API server answers them.
func (s *sim) ask(n *simNode) {
	asked := s.clock(n)
	n.view.Asked = asked
	for _, other := range s.nodes {
		if other == n {
			continue
		}
		s.after(s.delay(), func() {
			if other.down || other.lanCut || n.lanCut {
				return
			}
			has, spared := !other.cut && !s.apiOut, ""
			if has {
				other.view.Answered = s.clock(other)
			} else {
				other.view.Failed = max(other.view.Failed, s.clock(other))
				spared = other.view.Spares(n.name, s.timing)
			}
			s.after(s.delay(), func() {
				if state := n.reach[other.name]; state.Said < asked {
					state.HasAPI, state.Said, state.Spared = has, asked, spared
					n.reach[other.name] = state
				}
			})
		})
	}
}

func (n *simNode) versionOf(key string) int {
	version := n.view.Peers[key].Version
	if vip, isClaim := strings.CutPrefix(key, "vip/"); isClaim {
		version = n.view.Claims[vip].Version
	}
	number := 0
	_, _ = fmt.Sscan(version, &number)
	return number
}

// run plays for a while and returns what check first finds wrong, if anything.
func (s *sim) run(until time.Duration, check func() error) error {
	for len(s.queue) > 0 && s.now < until {
		next := heap.Pop(&s.queue).(event)
		s.now = next.at
		next.do()
		if err := check(); err != nil {
			return fmt.Errorf("at %v: %w", s.now, err)
		}
	}
	return nil
}
