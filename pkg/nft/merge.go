package nft

import (
	"net/netip"
	"slices"
)

// merge returns the fewest prefixes of one address family that cover the same addresses: none overlaps another, which
// nft would refuse, and no two are halves of one.
func merge(prefixes []netip.Prefix, ipv4 bool) []netip.Prefix {
	var sorted []netip.Prefix
	for _, p := range prefixes {
		if p.IsValid() && p.Addr().Is4() == ipv4 {
			sorted = append(sorted, p.Masked())
		}
	}
	slices.SortFunc(sorted, netip.Prefix.Compare) // a prefix before what it contains
	var merged []netip.Prefix
	for _, p := range sorted {
		if n := len(merged); n > 0 && merged[n-1].Overlaps(p) {
			continue
		}
		merged = append(merged, p)
		for n := len(merged); n > 1 && siblings(merged[n-2], merged[n-1]); n = len(merged) {
			merged = append(merged[:n-2], parent(merged[n-1]))
		}
	}
	return merged
}

func parent(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked()
}

func siblings(a, b netip.Prefix) bool {
	return a.Bits() == b.Bits() && a.Bits() > 0 && parent(a) == parent(b)
}
