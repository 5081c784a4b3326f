package source

import (
	"fmt"
	"net/netip"
	"strings"
)

// VIPName is the name of the VIP object of an address: IPv4 as it is ("192.0.2.10"), IPv6 with all its digits and "-" for ":"
// ("2001-0db8-0000-0000-0000-0000-0000-0010"), so that one address has one name and the name is a valid one.
func VIPName(addr netip.Addr) string {
	if addr.Is4() {
		return addr.String()
	}
	return strings.ReplaceAll(addr.WithZone("").StringExpanded(), ":", "-")
}

// ParseVIPName is the inverse of VIPName. Any other way of writing an address is an error.
func ParseVIPName(name string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.ReplaceAll(name, "-", ":"))
	if err != nil || addr.Is4In6() || VIPName(addr) != name {
		return netip.Addr{}, fmt.Errorf("%q is not the name of a VIP: an IPv4 address (192.0.2.10), or an IPv6 address with all "+
			"digits and - for : (2001-0db8-0000-0000-0000-0000-0000-0010)", name)
	}
	return addr, nil
}
