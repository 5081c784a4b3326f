package election

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"
)

// placement spreads VIPs over living nodes by rendezvous hashing with bounded load: every VIP goes to the first node of its
// own order that has not its share yet, so that equal nodes differ by one VIP at most. Preferred nodes come first in the order,
// and while one of those with the most weight lives no other is chosen; those that are out of reach come last whatever they
// weigh. All speakers that see the same compute the same. See Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads (2017).
type placement struct {
	alive  map[string]bool
	remote map[string]bool // those of them that are out of reach
	load   map[string]int
	share  int // of each node, rounded down: the remainder goes to the first that come
}

func newPlacement(vips []VIP, alive, remote map[string]bool) *placement {
	nodes := map[string]bool{}
	for _, vip := range vips {
		for _, node := range vip.Candidates {
			if alive[node] && !remote[node] {
				nodes[node] = true
			}
		}
	}
	share := 0
	if len(nodes) > 0 {
		share = len(vips) / len(nodes)
	}
	return &placement{alive: alive, remote: remote, load: map[string]int{}, share: share}
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
	most := order[:1] // those that are preferred alike
	for len(most) < len(order) && prefer(order[len(most)], order[0]) == 0 {
		most = order[:len(most)+1]
	}
	below := func(limit int) int {
		return slices.IndexFunc(most, func(node string) bool { return p.load[node] < limit })
	}
	first := below(p.share)
	if first < 0 {
		first = below(p.share + 1)
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
	out := slices.Clone(nodes)
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(score(key, b), score(key, a)), cmp.Compare(a, b))
	})
	return out
}

// score hashes a key with a node. FNV alone barely moves the high bits for a last byte, so the finalizer of SplitMix64
// follows (Steele, Lea, Flood 2014).
func score(key, node string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key + "\x00" + node))
	x := h.Sum64()
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
