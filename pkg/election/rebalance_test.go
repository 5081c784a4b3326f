package election

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// spread makes VIPs that any of the nodes may hold, so many on each of them, and tells who owns them.
func spread(nodes []string, held ...int) (vips []VIP, owners map[string]string) {
	owners = map[string]string{}
	for i, count := range held {
		for range count {
			name := fmt.Sprintf("10.0.0.%03d", len(vips))
			vips = append(vips, VIP{Name: name, Candidates: nodes})
			owners[name] = nodes[i]
		}
	}
	return vips, owners
}

// after counts VIPs by node, once moves are made.
func after(owners map[string]string, moves []Move) map[string]int {
	load, to := map[string]int{}, map[string]string{}
	for _, move := range moves {
		to[move.VIP] = move.To.Node
	}
	for vip, owner := range owners {
		if node, moves := to[vip]; moves {
			owner = node
		}
		load[owner]++
	}
	return load
}

func TestRebalance(t *testing.T) {
	nodes := []string{"a", "b", "c"}
	alive := setOfNames(nodes)
	for _, tc := range []struct {
		name  string
		held  []int
		alive map[string]bool
		edit  func(i int, vip *VIP)
		moves int
		load  map[string]int
	}{
		{name: "an even spread stays", held: []int{3, 3, 4}, alive: alive, load: map[string]int{"a": 3, "b": 3, "c": 4}},
		{name: "an empty node gets its share", held: []int{5, 5, 0}, alive: alive, moves: 3},
		{name: "one node has all", held: []int{9, 0, 0}, alive: alive, moves: 6, load: map[string]int{"a": 3, "b": 3, "c": 3}},
		{name: "nobody is moved to a dead node, nor from one", held: []int{4, 0, 3}, alive: setOfNames([]string{"a", "b"}), moves: 2,
			load: map[string]int{"a": 2, "b": 2, "c": 3}},
		{name: "a preferred node gets its own back, however many", held: []int{3, 3, 0}, alive: alive, moves: 5,
			edit: func(i int, vip *VIP) {
				if i < 4 {
					vip.Weights = map[string]int{"c": 10, "b": 5}
				}
			}, load: map[string]int{"a": 1, "b": 1, "c": 4}},
		{name: "one that may go nowhere else stays, and counts", held: []int{4, 0, 0}, alive: alive, moves: 2,
			edit: func(i int, vip *VIP) {
				if i < 2 {
					vip.Candidates = []string{"a"}
				}
			}, load: map[string]int{"a": 2, "b": 1, "c": 1}},
		{name: "room is made by others", held: []int{2, 2, 0}, alive: alive, moves: 1,
			edit: func(i int, vip *VIP) {
				if vip.Candidates = []string{"a", "b"}; i >= 2 {
					vip.Candidates = []string{"b", "c"}
				}
			}},
		{name: "a chain of two moves", held: []int{3, 1, 0}, alive: alive, moves: 2,
			edit: func(i int, vip *VIP) {
				if vip.Candidates = []string{"a", "b"}; i == 3 {
					vip.Candidates = []string{"b", "c"}
				}
			}, load: map[string]int{"a": 2, "b": 1, "c": 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			vips, owners := spread(nodes, tc.held...)
			for i := range vips {
				if tc.edit != nil {
					tc.edit(i, &vips[i])
				}
			}
			moves := Rebalance(vips, owners, tc.alive)
			load := after(owners, moves)
			if len(moves) != tc.moves {
				t.Errorf("%d moves, want %d: %v", len(moves), tc.moves, moves)
			}
			for node, want := range tc.load {
				if load[node] != want {
					t.Errorf("%s has %d, want %d: %v", node, load[node], want, moves)
				}
			}
			if tc.edit == nil && len(tc.alive) == len(nodes) {
				if low, high := min(load["a"], load["b"], load["c"]), max(load["a"], load["b"], load["c"]); high-low > 1 {
					t.Errorf("uneven: %v", load)
				}
			}
			if again := Rebalance(vips, moved(owners, moves), tc.alive); len(again) > 0 {
				t.Errorf("it is not done then: %v", again)
			}
		})
	}
}

func moved(owners map[string]string, moves []Move) map[string]string {
	out := map[string]string{}
	for vip, owner := range owners {
		out[vip] = owner
	}
	for _, move := range moves {
		out[move.VIP] = move.To.Node
	}
	return out
}

// TestRebalanceIsTheBest compares it with every assignment there is, of small ones.
func TestRebalanceIsTheBest(t *testing.T) {
	nodes := []string{"a", "b", "c"}
	alive := setOfNames(nodes)
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		vips, owners := make([]VIP, 1+rng.IntN(6)), map[string]string{}
		for i := range vips {
			candidates := slices.DeleteFunc(slices.Clone(nodes), func(string) bool { return rng.IntN(4) == 0 })
			vips[i] = VIP{Name: fmt.Sprintf("10.0.0.%d", i), Candidates: candidates, Weights: map[string]int{nodes[rng.IntN(3)]: rng.IntN(2)}}
			owners[vips[i].Name] = nodes[rng.IntN(3)]
		}
		moves := Rebalance(vips, owners, alive)
		now := moved(owners, moves)
		for _, vip := range vips {
			if targets := preferred(vip, alive); len(targets) > 0 && !slices.Contains(targets, now[vip.Name]) {
				t.Fatalf("seed %d: %s is on %s, not on one of %v", seed, vip.Name, now[vip.Name], targets)
			}
		}
		if got, want := price(vips, owners, now, alive), cheapest(vips, owners, map[string]string{}, alive); got != want {
			t.Fatalf("seed %d: uneven by %d with %d moves, want %d with %d", seed, got/100, got%100, want/100, want%100)
		}
	}
}

// price of an assignment: unevenness, then moves.
func price(vips []VIP, owners, now map[string]string, alive map[string]bool) int {
	load, sum := map[string]int{}, 0
	for _, vip := range vips {
		if len(preferred(vip, alive)) == 0 {
			continue
		}
		load[now[vip.Name]]++
		if now[vip.Name] != owners[vip.Name] {
			sum++
		}
	}
	for _, count := range load {
		sum += 100 * count * count
	}
	return sum
}

func cheapest(vips []VIP, owners, now map[string]string, alive map[string]bool) int {
	for _, vip := range vips {
		targets := preferred(vip, alive)
		if now[vip.Name] != "" || len(targets) == 0 {
			continue
		}
		best := -1
		for _, node := range targets {
			now[vip.Name] = node
			if cost := cheapest(vips, owners, now, alive); best < 0 || cost < best {
				best = cost
			}
		}
		delete(now, vip.Name)
		return best
	}
	return price(vips, owners, now, alive)
}

func TestRebalanceOfManyVIPs(t *testing.T) {
	var nodes []string
	for i := range 20 {
		nodes = append(nodes, fmt.Sprintf("n%02d", i))
	}
	held := make([]int, 20)
	for i := range 10 {
		held[i] = 1000
	}
	vips, owners := spread(nodes, held...)
	moves := Rebalance(vips, owners, setOfNames(nodes))
	if len(moves) != 5000 {
		t.Errorf("%d moves, want 5000", len(moves))
	}
	for node, count := range after(owners, moves) {
		if count != 500 {
			t.Errorf("%s has %d, want 500", node, count)
		}
	}
}

// TestOrderIsWhatSpeakersDo has every other speaker see the owner of a VIP gone, and looks who claims it at once.
func TestOrderIsWhatSpeakersDo(t *testing.T) {
	nodes := []string{"a", "b", "c", "d"}
	vips, owners := spread(nodes, 5, 2, 3, 2)
	vips[1].Weights = map[string]int{"d": 1}
	view := View{Registered: true, Renewed: 99 * second, Claims: map[string]Claim{}, VIPs: vips}
	for i := range vips {
		vips[i].Seen = 50 * second
		view.Claims[vips[i].Name] = Claim{Owner: Owner{owners[vips[i].Name], "1"}, Version: "1", Seen: 50 * second}
	}
	for _, vip := range vips[:5] { // those of a
		order := Order(vips, owners, setOfNames(nodes), vip.Name)
		if len(order) != 3 || slices.Contains(order, "a") {
			t.Fatalf("%s: the order is %v", vip.Name, order)
		}
		for _, node := range nodes[1:] {
			view.Self, view.Peers = Owner{node, "1"}, map[string]Peer{}
			for _, peer := range nodes {
				if peer != node {
					view.Peers[peer] = Peer{Owner: Owner{peer, "1"}, Version: "1", VersionSeen: 99 * second}
				}
			}
			view.Peers["a"] = Peer{Owner: Owner{Node: "a"}, Revoked: "1", Version: "2", VersionSeen: 100 * second, EpochSeen: 100 * second}
			claims := slices.ContainsFunc(Decide(100*second, DefaultTiming(), view).Claim, func(m Move) bool { return m.VIP == vip.Name })
			if claims != (order[0] == node) {
				t.Errorf("%s: %s claims it: %v, and the order is %v", vip.Name, node, claims, order)
			}
		}
	}
	if order := Order(vips, owners, setOfNames(nodes), vips[1].Name); order[0] != "d" {
		t.Errorf("the preferred node is not the first: %v", order)
	}
}
