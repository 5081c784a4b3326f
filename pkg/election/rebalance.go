package election

import (
	"slices"
	"strings"
)

// Rebalance lists the fewest moves after which every VIP is on a living candidate of the most weight and the nodes have as even
// a number of them as that allows (the least sum of squares: equal nodes differ by one at most). Moves are in the order of vips.
// Owners are nodes, by VIP; a VIP without a living owner is not moved, nor counted, because the election places it. What is not
// to move but counts has its owner as its only candidate.
//
// This is a flow of least cost with a convex cost for each node. It begins with any assignment and cancels negative cycles
// until there is none (Klein 1967), which is when no other assignment is more even, or as even with fewer moves.
func Rebalance(vips []VIP, owners map[string]string, alive map[string]bool) []Move {
	b := newBalance(vips, owners, alive)
	for b.improve() {
	}
	to := map[string]string{}
	for _, group := range b.groups {
		for _, vip := range group.vips {
			if group.at != group.home {
				to[vip] = b.nodes[group.at]
			}
		}
	}
	var out []Move
	for _, vip := range vips {
		if node, moves := to[vip.Name]; moves {
			out = append(out, Move{VIP: vip.Name, To: Owner{Node: node}})
		}
	}
	return out
}

// balance is an assignment of VIPs to nodes, which are numbered.
type balance struct {
	nodes  []string
	load   []int
	groups []*group
	index  map[groupKey]*group
	// unit is what unevenness costs, as against one for a move: more than all moves together.
	unit int
}

// group is the VIPs that are alike to a balance.
type group struct {
	groupKey
	allowed []bool // by node
	vips    []string
}

type groupKey struct {
	home, at int    // home is -1 if it is not allowed there: the VIP moves in any case
	targets  string // names of the allowed nodes
}

func newBalance(vips []VIP, owners map[string]string, alive map[string]bool) *balance {
	b := &balance{index: map[groupKey]*group{}, unit: len(vips) + 1}
	for node, lives := range alive {
		if lives {
			b.nodes = append(b.nodes, node)
		}
	}
	slices.Sort(b.nodes)
	b.load = make([]int, len(b.nodes))
	for _, vip := range vips {
		home, lives := slices.BinarySearch(b.nodes, owners[vip.Name])
		if targets := preferred(vip, alive); lives && len(targets) > 0 {
			allowed := make([]bool, len(b.nodes))
			for _, node := range targets {
				i, _ := slices.BinarySearch(b.nodes, node)
				allowed[i] = true
			}
			key := groupKey{home: home, at: home, targets: strings.Join(targets, " ")}
			if !allowed[home] {
				key.home, key.at = -1, slices.Index(allowed, true)
			}
			b.put(key, allowed, vip.Name)
			b.load[key.at]++
		}
	}
	return b
}

// preferred are the living candidates of the most weight, in the order of their names.
func preferred(vip VIP, alive map[string]bool) []string {
	var out []string
	for _, node := range vip.Candidates {
		if !alive[node] {
			continue
		}
		if len(out) > 0 && vip.Weights[node] != vip.Weights[out[0]] {
			if vip.Weights[node] < vip.Weights[out[0]] {
				continue
			}
			out = out[:0]
		}
		out = append(out, node)
	}
	slices.Sort(out)
	return out
}

func (b *balance) put(key groupKey, allowed []bool, vip string) {
	if b.index[key] == nil {
		b.index[key] = &group{groupKey: key, allowed: allowed}
		b.groups = append(b.groups, b.index[key])
	}
	b.index[key].vips = append(b.index[key].vips, vip)
}

// arc is a change of one unit between two nodes, or between a node and the pit, whose number is that of the nodes: the pit takes
// what makes a node's load smaller at one end of a path and greater at the other.
type arc struct {
	from, to, cost int
	of             *group // whose VIP moves; nil at the pit
}

func (b *balance) arcs() []arc {
	pit := len(b.nodes)
	out := make([]arc, 0, 2*pit+len(b.groups)*pit)
	for node, load := range b.load {
		out = append(out, arc{from: node, to: pit, cost: b.unit * (2*load + 1)})
		if load > 0 {
			out = append(out, arc{from: pit, to: node, cost: -b.unit * (2*load - 1)})
		}
	}
	for _, group := range b.groups {
		if len(group.vips) == 0 {
			continue
		}
		for to, allowed := range group.allowed {
			if allowed && to != group.at {
				out = append(out, arc{from: group.at, to: to, cost: group.moved(to) - group.moved(group.at), of: group})
			}
		}
	}
	return out
}

// moved is 1 if a VIP of the group is not at home on a node.
func (g *group) moved(node int) int {
	if g.home >= 0 && node != g.home {
		return 1
	}
	return 0
}

// improve makes the assignment cheaper by the changes of one cycle, if there is such a cycle (Bellman, Ford).
func (b *balance) improve() bool {
	arcs, count := b.arcs(), len(b.nodes)+1
	cost, by := make([]int, count), make([]*arc, count)
	last := -1
	for range count {
		last = -1
		for i := range arcs {
			if a := &arcs[i]; cost[a.from]+a.cost < cost[a.to] {
				cost[a.to], by[a.to], last = cost[a.from]+a.cost, a, a.to
			}
		}
		if last < 0 {
			return false
		}
	}
	for range count { // back into the cycle that leads here
		last = by[last].from
	}
	for node := last; ; {
		a := by[node]
		if node = a.from; a.of != nil {
			b.move(a.of, a.to)
		}
		if node == last {
			return true
		}
	}
}

// move takes a VIP of a group to another node.
func (b *balance) move(g *group, to int) {
	last := len(g.vips) - 1
	key := g.groupKey
	key.at = to
	b.put(key, g.allowed, g.vips[last])
	g.vips = g.vips[:last]
	b.load[g.at]--
	b.load[to]++
}
