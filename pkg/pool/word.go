package pool

import (
	"cmp"
	"encoding/binary"
	"math/big"
	"math/bits"
	"net/netip"
)

// word is an address as a number of 128 bits; IPv4 uses the lowest 32.
type word struct{ hi, lo uint64 }

func toWord(addr netip.Addr) word {
	if addr.Is4() {
		b := addr.As4()
		return word{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := addr.As16()
	return word{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (w word) addr(family Family) netip.Addr {
	if family == IPv4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(w.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], w.hi)
	binary.BigEndian.PutUint64(b[8:], w.lo)
	return netip.AddrFrom16(b)
}

func (w word) compare(other word) int {
	return cmp.Or(cmp.Compare(w.hi, other.hi), cmp.Compare(w.lo, other.lo))
}

// next and prev wrap around at the ends; their callers know that they are not at one.
func (w word) next() word {
	lo, carry := bits.Add64(w.lo, 1, 0)
	return word{w.hi + carry, lo}
}

func (w word) prev() word {
	lo, borrow := bits.Sub64(w.lo, 1, 0)
	return word{w.hi - borrow, lo}
}

// count of addresses from first to last: up to 2^128, which 128 bits do not hold.
func count(first, last word) *big.Int {
	n := last.big()
	return n.Sub(n, first.big()).Add(n, big.NewInt(1))
}

func (w word) big() *big.Int {
	n := new(big.Int).SetUint64(w.hi)
	return n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(w.lo))
}
