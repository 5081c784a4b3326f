package pool

// interval is all numbers from first to last, both included.
type interval struct{ first, last word }

// intervals is an ordered set of disjoint intervals with insertion, removal and search in expected O(log n): a treap (Seidel
// and Aragon 1996), whose nodes are in one slice, so that a change allocates nothing once the slice has grown. Node 0 stands
// for none.
type intervals struct {
	nodes []node
	root  int32
	spare int32 // removed nodes, linked by left
	seed  uint64
}

type node struct {
	interval
	priority    uint32
	left, right int32
}

func newIntervals() intervals { return intervals{nodes: make([]node, 1), seed: 1} }

// lowest is the interval with the lowest addresses, or nil. It may be changed in place as long as order and gaps stay.
func (t *intervals) lowest() *interval {
	if t.root == 0 {
		return nil
	}
	n := t.root
	for t.nodes[n].left != 0 {
		n = t.nodes[n].left
	}
	return &t.nodes[n].interval
}

// around finds the last interval that begins at or before w and the first that begins after it; nil where there is none.
func (t *intervals) around(w word) (before, after *interval) {
	for n := t.root; n != 0; {
		if at := &t.nodes[n]; at.first.compare(w) <= 0 {
			before, n = &at.interval, at.right
		} else {
			after, n = &at.interval, at.left
		}
	}
	return before, after
}

// insert adds an interval that overlaps none. Pointers from lowest and around are void afterwards.
func (t *intervals) insert(add interval) {
	n := t.spare
	if n != 0 {
		t.spare = t.nodes[n].left
	} else {
		n = int32(len(t.nodes))
		t.nodes = append(t.nodes, node{})
	}
	t.nodes[n] = node{interval: add, priority: t.random()}
	low, high := t.split(t.root, add.first)
	t.root = t.merge(t.merge(low, n), high)
}

// remove deletes the interval that begins at first, which exists.
func (t *intervals) remove(first word) {
	at := &t.root
	for *at != 0 {
		n := *at
		switch order := first.compare(t.nodes[n].first); {
		case order < 0:
			at = &t.nodes[n].left
		case order > 0:
			at = &t.nodes[n].right
		default:
			*at = t.merge(t.nodes[n].left, t.nodes[n].right)
			t.nodes[n] = node{left: t.spare}
			t.spare = n
			return
		}
	}
}

// split divides a tree into the intervals that begin before w and the others.
func (t *intervals) split(n int32, w word) (low, high int32) {
	if n == 0 {
		return 0, 0
	}
	if t.nodes[n].first.compare(w) < 0 {
		t.nodes[n].right, high = t.split(t.nodes[n].right, w)
		return n, high
	}
	low, t.nodes[n].left = t.split(t.nodes[n].left, w)
	return low, n
}

// merge joins two trees, all of low being before all of high.
func (t *intervals) merge(low, high int32) int32 {
	switch {
	case low == 0:
		return high
	case high == 0:
		return low
	case t.nodes[low].priority > t.nodes[high].priority:
		t.nodes[low].right = t.merge(t.nodes[low].right, high)
		return low
	default:
		t.nodes[high].left = t.merge(low, t.nodes[high].left)
		return high
	}
}

// random is splitmix64 (Steele, Lea and Flood 2014): priorities need to be independent of the keys, not secret.
func (t *intervals) random() uint32 {
	t.seed += 0x9e3779b97f4a7c15
	z := t.seed
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return uint32((z ^ z>>31) >> 32)
}
