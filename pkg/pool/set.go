package pool

import (
	"errors"
	"math/big"
	"net/netip"
	"slices"
	"sort"
)

// Set is a set of addresses of either family: sorted ranges that neither overlap nor touch, without the addresses that are
// avoided. The zero Set is empty.
type Set struct {
	ranges []Range
	avoid  Avoid
}

// Parse reads specifications, which may overlap, into a Set. An error joins one *ParseError for each that is wrong; the Set
// then holds the others.
func Parse(specs []string) (Set, error) {
	ranges := make([]Range, 0, len(specs))
	var errs []error
	for _, spec := range specs {
		r, err := ParseRange(spec)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ranges = append(ranges, r)
	}
	return NewSet(ranges...), errors.Join(errs...)
}

// NewSet makes the union of ranges.
func NewSet(ranges ...Range) Set {
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b Range) int { return a.First.Compare(b.First) })
	merged := sorted[:0]
	for _, r := range sorted {
		if n := len(merged); n > 0 && joins(merged[n-1], r) {
			if merged[n-1].Last.Less(r.Last) {
				merged[n-1].Last = r.Last
			}
			continue
		}
		merged = append(merged, r)
	}
	return Set{ranges: slices.Clip(merged)}
}

// joins reports whether b, which does not begin before a, overlaps a or follows it without a gap.
func joins(a, b Range) bool {
	return a.Family() == b.Family() && (!a.Last.Less(b.First) || a.Last.Next() == b.First)
}

// Ranges of the set, IPv4 first, ascending.
func (s Set) Ranges() []Range { return slices.Clone(s.ranges) }

// Without is the set less the ranges of another.
func (s Set) Without(other Set) Set {
	var rest []Range
	j := 0
	for _, r := range s.ranges {
		for j < len(other.ranges) && other.ranges[j].Last.Less(r.First) {
			j++
		}
		left, any := r, true
		for k := j; any && k < len(other.ranges); k++ {
			common, ok := intersect(left, other.ranges[k])
			if !ok {
				break
			}
			if left.First.Less(common.First) {
				rest = append(rest, Range{left.First, common.First.Prev()})
			}
			if any = common.Last.Less(left.Last); any {
				left.First = common.Last.Next()
			}
		}
		if any {
			rest = append(rest, left)
		}
	}
	return Set{ranges: rest, avoid: s.avoid}
}

// Avoiding is the set less the addresses to be avoided.
func (s Set) Avoiding(avoid Avoid) Set { return Set{ranges: s.ranges, avoid: s.avoid | avoid} }

// Contains reports whether addr is in the set, in O(log ranges).
func (s Set) Contains(addr netip.Addr) bool {
	if s.avoid.holds(FamilyOf(addr), toWord(addr)) {
		return false
	}
	i := sort.Search(len(s.ranges), func(i int) bool { return addr.Less(s.ranges[i].First) })
	return i > 0 && s.ranges[i-1].Contains(addr)
}

// Capacity is the number of addresses of a family.
func (s Set) Capacity(family Family) *big.Int {
	total := new(big.Int)
	for _, r := range s.ranges {
		if r.Family() == family {
			first, last := toWord(r.First), toWord(r.Last)
			total.Add(total, count(first, last))
			total.Sub(total, new(big.Int).SetUint64(s.avoid.between(family, first, last)))
		}
	}
	return total
}

// Shared is where two sets overlap.
type Shared struct {
	A, B   Range // a range of each set
	Common Range // what both hold
}

// Overlap finds the lowest addresses that the ranges of both sets hold, those that one of them avoids too.
func Overlap(a, b Set) (Shared, bool) {
	for i, j := 0, 0; i < len(a.ranges) && j < len(b.ranges); {
		x, y := a.ranges[i], b.ranges[j]
		if common, ok := intersect(x, y); ok {
			return Shared{A: x, B: y, Common: common}, true
		}
		if x.Last.Less(y.Last) {
			i++
		} else {
			j++
		}
	}
	return Shared{}, false
}
