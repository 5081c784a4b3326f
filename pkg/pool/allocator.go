package pool

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
)

// What Take and Release answer when they change nothing.
var (
	ErrNotInPool = errors.New("address is not in the pool")
	ErrTaken     = errors.New("address is taken already")
	ErrFree      = errors.New("address is free already")
)

// Allocator knows which addresses of a Set are free. It is not safe for concurrent use.
type Allocator struct {
	set    Set
	v4, v6 space
}

// space is the addresses of one family.
type space struct {
	family   Family
	avoid    Avoid
	capacity *big.Int
	used     uint64
	free     intervals // disjoint, not touching, and none begins or ends with an address to avoid
}

// NewAllocator makes an allocator whose addresses are all free.
func NewAllocator(set Set) *Allocator {
	a := &Allocator{set: set}
	for _, family := range []Family{IPv4, IPv6} {
		*a.space(family) = space{family: family, avoid: set.avoid, capacity: set.Capacity(family), free: newIntervals()}
	}
	for _, r := range set.ranges {
		s := a.space(r.Family())
		usable := interval{set.avoid.up(s.family, toWord(r.First)), set.avoid.down(s.family, toWord(r.Last))}
		if usable.first.compare(usable.last) <= 0 {
			s.free.insert(usable)
		}
	}
	return a
}

func (a *Allocator) space(family Family) *space {
	if family == IPv4 {
		return &a.v4
	}
	return &a.v6
}

// Allocate takes the lowest free address of a family, in O(log holes). It is false when none is free.
func (a *Allocator) Allocate(family Family) (netip.Addr, bool) {
	s := a.space(family)
	lowest := s.free.lowest()
	if lowest == nil {
		return netip.Addr{}, false
	}
	w := lowest.first
	s.takeFrom(lowest, w)
	return w.addr(family), true
}

// Take marks an address as used. The error wraps ErrNotInPool or ErrTaken.
func (a *Allocator) Take(addr netip.Addr) error {
	if !a.set.Contains(addr) {
		return fmt.Errorf("take %s: %w", addr, ErrNotInPool)
	}
	s, w := a.space(FamilyOf(addr)), toWord(addr)
	at, _ := s.free.around(w)
	if at == nil || at.last.compare(w) < 0 {
		return fmt.Errorf("take %s: %w", addr, ErrTaken)
	}
	s.takeFrom(at, w)
	return nil
}

// takeFrom removes one address from the free interval that holds it.
func (s *space) takeFrom(at *interval, w word) {
	s.used++
	switch {
	case at.first == at.last:
		s.free.remove(at.first)
	case at.first == w:
		at.first = s.after(w)
	case at.last == w:
		at.last = s.before(w)
	default:
		above := interval{s.after(w), at.last}
		at.last = s.before(w)
		s.free.insert(above)
	}
}

// after and before are the neighbours of an address among those that are not avoided.
func (s *space) after(w word) word  { return s.avoid.up(s.family, w.next()) }
func (s *space) before(w word) word { return s.avoid.down(s.family, w.prev()) }

// Release marks an address as free. The error wraps ErrNotInPool or ErrFree.
func (a *Allocator) Release(addr netip.Addr) error {
	if !a.set.Contains(addr) {
		return fmt.Errorf("release %s: %w", addr, ErrNotInPool)
	}
	s, w := a.space(FamilyOf(addr)), toWord(addr)
	before, after := s.free.around(w)
	if before != nil && before.last.compare(w) >= 0 {
		return fmt.Errorf("release %s: %w", addr, ErrFree)
	}
	s.used--
	touchesBefore := before != nil && s.after(before.last) == w
	touchesAfter := after != nil && s.before(after.first) == w
	switch {
	case touchesBefore && touchesAfter:
		last := after.last
		s.free.remove(after.first)
		before.last = last
	case touchesBefore:
		before.last = w
	case touchesAfter:
		after.first = w
	default:
		s.free.insert(interval{w, w})
	}
	return nil
}

// Contains reports whether the pool holds an address, free or not.
func (a *Allocator) Contains(addr netip.Addr) bool { return a.set.Contains(addr) }

// Free reports whether an address of the pool is free.
func (a *Allocator) Free(addr netip.Addr) bool {
	if !a.set.Contains(addr) {
		return false
	}
	w := toWord(addr)
	at, _ := a.space(FamilyOf(addr)).free.around(w)
	return at != nil && at.last.compare(w) >= 0
}

// Usage counts the addresses of one family.
type Usage struct {
	Capacity, Allocated, Available *big.Int
}

// Usage of a family; the counts are the caller's to keep. Their String is what a status shows.
func (a *Allocator) Usage(family Family) Usage {
	s := a.space(family)
	used := new(big.Int).SetUint64(s.used)
	return Usage{
		Capacity:  new(big.Int).Set(s.capacity),
		Allocated: used,
		Available: new(big.Int).Sub(s.capacity, used),
	}
}
