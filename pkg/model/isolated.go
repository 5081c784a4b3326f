package model

import "net/netip"

// IsolatedHosts are the addresses by which a host itself, and its pods where its network plugin translates what they send, come
// to the host's isolated datapath (see package isolated): link-local ones, and unique local ones with a random prefix.
var IsolatedHosts = []netip.Prefix{
	netip.MustParsePrefix("169.254.74.72/29"),
	netip.MustParsePrefix("fd5b:27e6:74d3::/126"),
}
