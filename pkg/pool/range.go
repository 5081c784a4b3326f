package pool

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"
)

// Family is an address family, written as Kubernetes writes it (core/v1 IPFamily).
type Family string

// The address families.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

// FamilyOf is the family of an address.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// Range is all addresses from First to Last, both included, of one family.
type Range struct {
	First, Last netip.Addr
}

// Family of the range's addresses.
func (r Range) Family() Family { return FamilyOf(r.First) }

// Contains reports whether addr is in the range.
func (r Range) Contains(addr netip.Addr) bool {
	return addr.BitLen() == r.First.BitLen() && r.First.Compare(addr) <= 0 && addr.Compare(r.Last) <= 0
}

// String is the shortest specification that ParseRange reads as this range: an address, a CIDR, or "first-last".
func (r Range) String() string {
	if r.First == r.Last {
		return r.First.String()
	}
	first, last := toWord(r.First), toWord(r.Last)
	host := bits.LeadingZeros64(first.hi ^ last.hi)
	if host == 64 {
		host += bits.LeadingZeros64(first.lo ^ last.lo)
	}
	length := host - (128 - r.First.BitLen()) // bits that both ends share
	if p := netip.PrefixFrom(r.First, length); p.Masked() == p && lastOf(p) == r.Last {
		return p.String()
	}
	return r.First.String() + "-" + r.Last.String()
}

// ParseError tells why a specification cannot be used. Its text names the value and the remedy.
type ParseError struct {
	Value   string // what was read
	Problem string // what is wrong with it
	Remedy  string // what to write instead
}

func (e *ParseError) Error() string { return fmt.Sprintf("%q %s: %s", e.Value, e.Problem, e.Remedy) }

const forms = "write a CIDR (192.0.2.0/28, 2001:db8::/120), a range (192.0.2.10-192.0.2.20), or one address (192.0.2.10)"

// ParseRange reads a CIDR, a range "first-last", or a single address. The error is a *ParseError.
func ParseRange(spec string) (Range, error) {
	spec = strings.TrimSpace(spec)
	var r Range
	switch {
	case strings.Contains(spec, "/"):
		prefix, err := netip.ParsePrefix(spec)
		if err != nil {
			return Range{}, &ParseError{spec, "is not a CIDR", forms}
		}
		if err := checkForm(spec, prefix.Addr()); err != nil {
			return Range{}, err
		}
		if masked := prefix.Masked(); masked != prefix {
			return Range{}, &ParseError{spec, "has bits set after its prefix",
				fmt.Sprintf("write %s for the network or %s for the address", masked, prefix.Addr())}
		}
		r = Range{prefix.Addr(), lastOf(prefix)}
	case strings.Contains(spec, "-"):
		first, last, _ := strings.Cut(spec, "-")
		var err error
		if r.First, err = parseAddr(spec, strings.TrimSpace(first)); err != nil {
			return Range{}, err
		}
		if r.Last, err = parseAddr(spec, strings.TrimSpace(last)); err != nil {
			return Range{}, err
		}
		if FamilyOf(r.First) != FamilyOf(r.Last) {
			return Range{}, &ParseError{spec, "goes from " + string(FamilyOf(r.First)) + " to " + string(FamilyOf(r.Last)),
				"write one range for each family"}
		}
		if r.Last.Less(r.First) {
			return Range{}, &ParseError{spec, "ends before it begins", fmt.Sprintf("write %s-%s", r.Last, r.First)}
		}
	default:
		addr, err := parseAddr(spec, spec)
		if err != nil {
			return Range{}, err
		}
		r = Range{addr, addr}
	}
	return r, checkUsable(spec, r)
}

func parseAddr(spec, text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, &ParseError{spec, fmt.Sprintf("holds %q, which is not an IP address", text), forms}
	}
	return addr, checkForm(spec, addr)
}

// checkForm refuses the two ways of writing an address that make it another one elsewhere.
func checkForm(spec string, addr netip.Addr) error {
	switch {
	case addr.Zone() != "":
		return &ParseError{spec, "has a zone", fmt.Sprintf("write %s; interfaces are named by the pool", addr.WithZone(""))}
	case addr.Is4In6():
		return &ParseError{spec, "is an IPv4-mapped IPv6 address", fmt.Sprintf("write it as IPv4 (%s)", addr.Unmap())}
	}
	return nil
}

// checkUsable refuses ranges with an address that no host may have as its own towards others.
func checkUsable(spec string, r Range) error {
	for _, reserved := range []struct{ cidr, name string }{
		{"0.0.0.0/8", `"this network" (RFC 1122 section 3.2.1.3)`},
		{"127.0.0.0/8", "loopback (RFC 1122 section 3.2.1.3)"},
		{"224.0.0.0/4", "multicast (RFC 5771)"},
		{"255.255.255.255/32", "broadcast (RFC 919)"},
		{"::/127", "unspecified and loopback (RFC 4291 section 2.5)"},
		{"::ffff:0:0/96", "IPv4-mapped (RFC 4291 section 2.5.5)"},
		{"fe80::/10", "link-local (RFC 4291 section 2.5.6)"},
		{"ff00::/8", "multicast (RFC 4291 section 2.7)"},
	} {
		prefix := netip.MustParsePrefix(reserved.cidr)
		if _, overlap := intersect(r, Range{prefix.Addr(), lastOf(prefix)}); overlap {
			return &ParseError{spec, fmt.Sprintf("holds addresses of %s, which is %s", reserved.cidr, reserved.name),
				"leave them out: nobody could connect to them"}
		}
	}
	return nil
}

// intersect is the part that two ranges have in common.
func intersect(a, b Range) (Range, bool) {
	if a.First.BitLen() != b.First.BitLen() {
		return Range{}, false
	}
	common := a
	if common.First.Less(b.First) {
		common.First = b.First
	}
	if b.Last.Less(common.Last) {
		common.Last = b.Last
	}
	return common, !common.Last.Less(common.First)
}

// lastOf is the highest address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	w := toWord(p.Masked().Addr())
	host := p.Addr().BitLen() - p.Bits()
	switch {
	case host >= 128:
		w = word{^uint64(0), ^uint64(0)}
	case host >= 64:
		w.lo = ^uint64(0)
		w.hi |= 1<<(host-64) - 1
	default:
		w.lo |= 1<<host - 1
	}
	return w.addr(FamilyOf(p.Addr()))
}
