// Package isolated gives a node a network namespace of Fairlead's own for the datapath, and joins the two: the isolated
// placement.
//
// Inside are the VIPs, IPVS and the nftables table inet fairlead; nothing on the host (kube-proxy, ipvsadm -C, a CNI) reaches
// them. The host has, for each VIP that it holds, a route through a pair of veths into the namespace and a proxy neighbour
// entry on the interface of the LAN, by which the kernel answers ARP and neighbour solicitations for the VIP.
//
// It owns the namespace, the links fl-h and fl-d with all that is on them, every route through fl-h, the routing rules of Mark,
// and the proxy neighbour entries that the caller calls ours. It touches nothing else of the host.
//
// # The fence
//
// A speaker that was killed or froze must not go on answering. Both fences are one write for all VIPs.
//
// IPv4: routes to VIPs prefer a source address on fl-h that has a lifetime (Fence). With the address go the routes
// (fib_sync_down_addr in net/ipv4/fib_semantics.c), and without a route through another interface than the one it was asked on
// the kernel answers no ARP request by proxy (arp_process in net/ipv4/arp.c).
//
// IPv6: the kernel answers neighbour solicitations by proxy whatever the routes say (ndisc_recv_ns in net/ipv6/ndisc.c). The
// table of nft.Outside drops those for our VIPs unless a datagram to Beat passed by within the time that its port names. A process
// that begins cannot ask whether one did: the address of the other fence, which has the same lifetime, tells.
package isolated

import "net/netip"

// Names of the two ends of the link, the host's and the datapath's.
const (
	HostLink   = "fl-h"
	InsideLink = "fl-d"
)

// DefaultPath is where the namespace is mounted. It outlives the speaker, so that the next one finds it as it is.
const DefaultPath = "/run/fairlead/netns"

// Addresses of the link, all in model.IsolatedHosts: link-local ones (RFC 3927) and, since a source address for what leaves the
// namespace needs a scope no smaller than its destination's (RFC 6724, rule 2), unique local ones (RFC 4193).
var (
	Host4   = netip.MustParsePrefix("169.254.74.73/30")
	Inside4 = netip.MustParsePrefix("169.254.74.74/30")
	Host6   = netip.MustParsePrefix("fd5b:27e6:74d3::1/126")
	Inside6 = netip.MustParsePrefix("fd5b:27e6:74d3::2/126")
)

// Fence is the address of the host whose end takes the routes to IPv4 VIPs with it. The host's own processes come from it.
var Fence = netip.MustParsePrefix("169.254.74.77/32")

// Beat is where datagrams keep IPv6 VIPs answering for as many seconds as the port says, BeatMax at the most.
var Beat = Host6.Addr()

// Mark is the bit of conntrack and packet marks by which answers to clients whose address a backend saw find their way back into
// the namespace, and the number of the routing table that it leads to.
const (
	Mark      = 0x2000
	MarkTable = 7473
)

// markPriority is that of the rule: after that of the host's own addresses (0).
const markPriority = 74

// BeatMax is more than any right to announce lasts.
const BeatMax = 10
