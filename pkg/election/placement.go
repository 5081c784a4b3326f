package election

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// placement spreads VIPs over living nodes by rendezvous hashing with bounded load: every VIP goes to the first node of its
// own order that has not its share yet, so that equal nodes differ by one VIP at most. Preferred nodes come first in the order,
// and while one of those with the most weight lives no other is chosen; those that are out of reach come last whatever they
// weigh. All speakers that see the same compute the same. See Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded
// Loads (2017).
type placement struct {
	vips   []VIP
	alive  map[string]bool
	remote map[string]bool // those of them that are out of reach
	load   map[string]int
	share  func() int // of each node, rounded down: the remainder goes to the first that come
}

func newPlacement(vips []VIP, alive, remote map[string]bool) *placement {
	p := &placement{vips: vips, alive: alive, remote: remote, load: map[string]int{}}
	p.share = sync.OnceValue(p.even) // mostly there is nothing to assign
	return p
}

// even is the share of each node that lives, within reach, and may hold any VIP.
func (p *placement) even() int {
	nodes := map[string]bool{}
	for _, vip := range p.vips {
		for _, node := range vip.Candidates {
			if p.alive[node] && !p.remote[node] {
				nodes[node] = true
			}
		}
		if len(nodes) == len(p.alive) {
			break
		}
	}
	return len(p.vips) / max(len(nodes), 1)
}

// add counts a VIP that a node has already.
func (p *placement) add(node string) { p.load[node]++ }

// assign gives a VIP to a node and returns the order in which candidates may claim it: that node first.
func (p *placement) assign(vip VIP) []string {
	var living []string
	for _, node := range vip.Candidates {
		if p.alive[node] {
			living = append(living, node)
		}
	}
	if len(living) == 0 {
		return nil
	}
	order := ordered(vip.Name, living)
	most := order // those that are preferred alike
	if len(vip.Weights) > 0 || len(p.remote) > 0 {
		prefer := func(a, b string) int {
			if p.remote[a] != p.remote[b] {
				if p.remote[a] {
					return 1
				}
				return -1
			}
			return cmp.Compare(vip.Weights[b], vip.Weights[a])
		}
		slices.SortStableFunc(order, prefer)
		if i := slices.IndexFunc(order, func(node string) bool { return prefer(node, order[0]) != 0 }); i > 0 {
			most = order[:i]
		}
	}
	below := func(limit int) int {
		return slices.IndexFunc(most, func(node string) bool { return p.load[node] < limit })
	}
	first := below(p.share())
	if first < 0 {
		first = below(p.share() + 1)
	}
	if first < 0 {
		least := slices.MinFunc(most, func(a, b string) int { return cmp.Compare(p.load[a], p.load[b]) })
		first = slices.Index(order, least)
	}
	node := order[first]
	p.load[node]++
	return slices.Insert(slices.Delete(order, first, first+1), 0, node)
}

// Order lists the living candidates of a VIP as they would claim it if its owner, as far as it has one, were gone now: what that
// one owns besides is placed too, in the order of vips. Owners are nodes, by VIP.
func Order(vips []VIP, owners map[string]string, alive map[string]bool, name string) []string {
	gone := owners[name]
	others := maps.Clone(alive)
	delete(others, gone)
	place := newPlacement(vips, others, nil)
	for _, vip := range vips {
		if owner := owners[vip.Name]; others[owner] {
			place.add(owner)
		}
	}
	for _, vip := range vips {
		if others[owners[vip.Name]] {
			continue
		}
		if order := place.assign(vip); vip.Name == name {
			return order
		}
	}
	return nil
}

// ordered sorts nodes by their rendezvous score for a key, the highest first.
func ordered(key string, nodes []string) []string {
	type scored struct {
		node  string
		score uint64
	}
	prefix := fnv(fnvOffset, key+"\x00")
	all := make([]scored, 0, len(nodes))
	for _, node := range nodes {
		all = append(all, scored{node, mix(fnv(prefix, node))})
	}
	slices.SortFunc(all, func(a, b scored) int {
		if a.score != b.score {
			return cmp.Compare(b.score, a.score)
		}
		return cmp.Compare(a.node, b.node)
	})
	out := make([]string, 0, len(nodes))
	for _, one := range all {
		out = append(out, one.node)
	}
	return out
}

// The constants of the 64-bit FNV-1a hash, as in hash/fnv, which cannot go on from a hash.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// fnv goes on with an FNV-1a hash: that of a key is the same for all nodes.
func fnv(hash uint64, text string) uint64 {
	for i := range len(text) {
		hash = (hash ^ uint64(text[i])) * fnvPrime
	}
	return hash
}

// mix is the finalizer of SplitMix64 (Steele, Lea, Flood 2014): FNV alone barely moves the high bits for a last byte.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
