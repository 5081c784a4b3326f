package nft

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/knftables"
)

// The sets and maps, of each family.
const (
	vips4, vips6                 = "vips4", "vips6"                 // our VIPs
	services4, services6         = "services4", "services6"         // open frontends
	restricted4, restricted6     = "restricted4", "restricted6"     // frontends that are open to their sources only
	sources4, sources6           = "sources4", "sources6"           // frontends with the networks that may connect
	inside4, inside6             = "inside4", "inside6"             // clients that are always translated
	received4, received6         = "received4", "received6"         // frontends that this node serves as a backend
	tunnelled4, tunnelled6       = "tunnelled4", "tunnelled6"       // frontends whose packets come wrapped
	translations4, translations6 = "translations4", "translations6" // backends that do not see the node's address
)

var interval = []knftables.SetFlag{knftables.IntervalFlag}

var maps = []*knftables.Map{
	{Name: translations4, Type: "ipv4_addr . ipv4_addr . inet_proto . inet_service : verdict"},
	{Name: translations6, Type: "ipv6_addr . ipv6_addr . inet_proto . inet_service : verdict"},
}

var sets = []*knftables.Set{
	{Name: inside4, Type: "ipv4_addr", Flags: interval},
	{Name: inside6, Type: "ipv6_addr", Flags: interval},
	{Name: received4, Type: "ipv4_addr . inet_proto . inet_service"},
	{Name: received6, Type: "ipv6_addr . inet_proto . inet_service"},
	{Name: tunnelled4, Type: "ipv4_addr . inet_proto . inet_service"},
	{Name: tunnelled6, Type: "ipv6_addr . inet_proto . inet_service"},
	{Name: vips4, Type: "ipv4_addr"},
	{Name: vips6, Type: "ipv6_addr"},
	{Name: services4, Type: "ipv4_addr . inet_proto . inet_service"},
	{Name: services6, Type: "ipv6_addr . inet_proto . inet_service"},
	{Name: restricted4, Type: "ipv4_addr . inet_proto . inet_service"},
	{Name: restricted6, Type: "ipv6_addr . inet_proto . inet_service"},
	{Name: sources4, Type: "ipv4_addr . inet_proto . inet_service . ipv4_addr", Flags: interval},
	{Name: sources6, Type: "ipv6_addr . inet_proto . inet_service . ipv6_addr", Flags: interval},
}

// sentFrom are the ports, in blocks of 64, from which this node, or a pod as it, lately asked a VIP that another node had. The kernel
// puts them there, and forgets each after as long as IPVS remembers a datagram (net/netfilter/ipvs/ip_vs_proto_udp.c; of a TCP
// connection that ended it does so for two minutes). With single ports the set could be as long as all else that nft lists.
var sentFrom = &knftables.Set{
	Name: "sentfrom", Type: "inet_service", Flags: []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag},
	Timeout: knftables.PtrTo(5 * time.Minute), Size: knftables.PtrTo[uint64](1 << 11), // some may be forgotten, and not removed yet
}

// Priorities of the hooks, relative to what is named in linux/netfilter_ipv4.h: prerouting before DNAT (-100) and after
// conntrack (-200), postrouting before the masquerading of kube-proxy and CNIs (100). The first chain that translates a connection
// is the last that is asked (nf_nat_inet_fn).
const (
	prePriority  knftables.BaseChainPriority = knftables.DNATPriority + "-10"
	natPriority  knftables.BaseChainPriority = knftables.DNATPriority + "-5"
	postPriority knftables.BaseChainPriority = knftables.SNATPriority + "-5"
	// What leaves is looked at after all translations.
	leavingPriority knftables.BaseChainPriority = knftables.SNATPriority + "+5"
	// What this node sends IPVS takes at -98 (ip_vs_ops4, NF_IP_PRI_NAT_DST + 2), after the translations of kube-proxy.
	hidePriority knftables.BaseChainPriority = "-99"
	showPriority knftables.BaseChainPriority = "-97"
)

// Chains of what is sent to VIPs and leaves, and those that a translation goes to, by its source, of each family.
var (
	forwarded  = [2]string{"forwarded4", "forwarded6"}
	fromVIP    = [2]string{"fromvip4", "fromvip6"}
	fromClient = [2]string{"fromclient4", "fromclient6"}
)

// Base chains around IPVS in the output hook, and what they do to a packet.
const hide, show, hidden, shown = "hide", "show", "hidden", "shown"

var chains = []*knftables.Chain{
	{Name: "vip4"},
	{Name: "vip6"},
	{Name: "bound4"},
	{Name: "bound6"},
	{Name: "open4"},
	{Name: "open6"},
	{Name: forwarded[0]},
	{Name: forwarded[1]},
	{Name: fromVIP[0]},
	{Name: fromVIP[1]},
	{Name: fromClient[0]},
	{Name: fromClient[1]},
	{Name: lowPorts},
	{Name: "opening"},
	{Name: "sent"},
	{Name: hidden},
	{Name: shown},
	{
		Name: hide, Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.OutputHook), Priority: knftables.PtrTo(hidePriority),
	},
	{
		Name: show, Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.OutputHook), Priority: knftables.PtrTo(showPriority),
	},
	{
		Name: "prerouting", Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.PreroutingHook), Priority: knftables.PtrTo(prePriority),
	},
	{
		Name: "destination", Type: knftables.PtrTo(knftables.NATType),
		Hook: knftables.PtrTo(knftables.PreroutingHook), Priority: knftables.PtrTo(natPriority),
	},
	{
		Name: "postrouting", Type: knftables.PtrTo(knftables.NATType),
		Hook: knftables.PtrTo(knftables.PostroutingHook), Priority: knftables.PtrTo(postPriority),
	},
	{
		Name: "leaving", Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.PostroutingHook), Priority: knftables.PtrTo(leavingPriority),
	},
}

// Segments of tunnelled connections, in bytes: what is left of Ethernet's 1500 after the longest wrapping header (IPv6, 40)
// and the packet's own IP and TCP headers (40, 60). nftables never raises what a host says (nft(8), maxseg).
const mss4, mss6 = "1420", "1400"

// returns matches what would leave by the interface that it came by. A VIP's packet does that while nobody has bound the VIP and
// the sender does not know yet: two nodes that each take the other for the holder would pass it to and fro until its time to live
// is over, and a client that is told so fails to connect, where silence has it try again.
const returns, returnsFor = "fib daddr . iif oif exists", "VIPs on their way back to the LAN"

// A VIP's last holder takes what a backend of its own answers for one of its connections, by addresses and ports alone, as long as it
// remembers those. So what the next holder asks backends for does not come from a port that it had asked that one from, but from one
// below those that Linux gives to connections by default (ip_local_port_range). Any other stays the client's: ports chosen at
// random would meet connections that a backend has in TIME-WAIT, which it refuses, for a second each.
const (
	noteSent = "fib saddr type local meta l4proto { 6, 17, 132 } update @sentfrom { th sport & 0xffc0 }"
	evade    = "th sport & 0xffc0 @sentfrom jump " + lowPorts
	lowPorts = "lowports"
)

// rule is a rule of the table with what it is for.
type rule struct {
	chain, text, purpose string
}

// Transport protocols are written as their numbers (TCP 6, UDP 17, SCTP 132; ICMP 1, ICMPv6 58): for their names nft
// wants a file /etc/protocols, which small container images have not got. Where a set has intervals, the protocol is read
// from the IP header: nft 1.0.6 converts the byte order of "meta l4proto" there as if it had two bytes, which kernel 7.2
// refuses. So an IPv6 packet with extension headers does not match a restricted frontend's sources, and is dropped.
var rules = []rule{
	{"prerouting", "ip daddr @vips4 goto vip4", "our VIPs"},
	{"prerouting", "ip6 daddr @vips6 goto vip6", "our VIPs"},
	{"vip4", "fib daddr type local goto bound4", "where bound"},
	{"vip4", returns + " drop", returnsFor},
	{"vip6", "fib daddr type local goto bound6", "where bound"},
	{"vip6", returns + " drop", returnsFor},

	{"bound4", "ct direction reply accept", "answers to this node's own connections"},
	{"bound4", "meta l4proto 1 accept", "ICMP"},
	{"bound4", "ip daddr . meta l4proto . th dport @services4 goto open4", "open ports"},
	{"bound4", "drop", "closed ports and other protocols"},
	{"open4", "ip daddr . meta l4proto . th dport @restricted4 ip daddr . ip protocol . th dport . ip saddr != @sources4 drop", "source ranges"},

	{"bound6", "ct direction reply accept", "answers to this node's own connections"},
	{"bound6", "meta l4proto 58 accept", "ICMPv6"},
	{"bound6", "ip6 daddr . meta l4proto . th dport @services6 goto open6", "open ports"},
	{"bound6", "drop", "closed ports and other protocols"},
	{"open6", "ip6 daddr . meta l4proto . th dport @restricted6 ip6 daddr . ip6 nexthdr . th dport . ip6 saddr != @sources6 drop", "source ranges"},

	// While a VIP is not here, what this node's own processes send to it is for the holder, as anybody else's is. IPVS would balance
	// it here: it does not look at a port that no frontend has. A connection from here to a backend on the holder's node would
	// collide there with one of a pod of this node, which is translated to the same address and may have the same port: IPVS finds
	// to whom a backend answers by both ends of the answer.
	{hide, "ip daddr @vips4 fib daddr type != local ct direction original goto hidden", "own connections to VIPs elsewhere"},
	{hide, "ip6 daddr @vips6 fib daddr type != local ct direction original goto hidden", "own connections to VIPs elsewhere"},
	{hidden, "meta l4proto 6 tcp dport set 0", "out of the sight of IPVS"},
	{hidden, "meta l4proto 17 udp dport set 0", "out of the sight of IPVS"},
	{hidden, "meta l4proto 132 sctp dport set 0", "out of the sight of IPVS"},
	{show, "ip daddr @vips4 th dport 0 goto shown", "own connections to VIPs elsewhere"},
	{show, "ip6 daddr @vips6 th dport 0 goto shown", "own connections to VIPs elsewhere"},
	{shown, "meta l4proto 6 tcp dport set ct reply proto-src", "their port"},
	{shown, "meta l4proto 17 udp dport set ct reply proto-src", "their port"},
	{shown, "meta l4proto 132 sctp dport set ct reply proto-src", "their port"},

	// Connections to frontends keep their destination: NodePorts, host ports and external addresses of others are not for them, and
	// however many rules kube-proxy has, they pass none of those. IPVS comes later. What this node gets as a backend may well be for
	// a host port.
	{"destination", "ip daddr . meta l4proto . th dport @services4 ip daddr . meta l4proto . th dport != @received4 dnat ip to ip daddr", "spared the translations of others"},
	{"destination", "ip6 daddr . meta l4proto . th dport @services6 ip6 daddr . meta l4proto . th dport != @received6 dnat ip6 to ip6 daddr", "spared the translations of others"},

	// What kube-proxy translates of what this node and its pods send to a VIP is its own. Of the rest, a backend may see the VIP or the
	// client; any other must answer to this node, not to the client past it.
	{"postrouting", "ct original ip daddr @vips4 goto forwarded4", "sent to our VIPs"},
	{"postrouting", "ct original ip6 daddr @vips6 goto forwarded6", "sent to our VIPs"},
	{forwarded[0], "ct status & dnat != 0 accept", "translated by others"},
	{forwarded[1], "ct status & dnat != 0 accept", "translated by others"},
	{forwarded[0], "ct original ip daddr . ip daddr . meta l4proto . th dport vmap @translations4", "sources"},
	{forwarded[1], "ct original ip6 daddr . ip6 daddr . meta l4proto . th dport vmap @translations6", "sources"},
	{forwarded[0], "ip daddr @vips4 accept", "for another node to forward"},
	{forwarded[1], "ip6 daddr @vips6 accept", "for another node to forward"},
	{forwarded[0], evade, "ports that the last holder may know"},
	{forwarded[1], evade, "ports that the last holder may know"},
	{lowPorts, "meta l4proto { 6, 17, 132 } masquerade to :1024-32767", "forwarded by IPVS"},
	{forwarded[0], "masquerade", "forwarded by IPVS"},
	{forwarded[1], "masquerade", "forwarded by IPVS"},

	// Answers to what this node itself sends come back to it also while it does not hold the VIP.
	{fromVIP[0], "fib saddr type local return", "of this node"},
	{fromVIP[1], "fib saddr type local return", "of this node"},
	{fromClient[0], "fib saddr type local return", "of this node"},
	{fromClient[1], "fib saddr type local return", "of this node"},
	{fromVIP[0], "snat ip to ct original ip daddr", "answers go to the VIP's holder"},
	{fromVIP[1], "snat ip6 to ct original ip6 daddr", "answers go to the VIP's holder"},
	{fromClient[0], "ip saddr != @inside4 accept", "answers come by here"},
	{fromClient[1], "ip6 saddr != @inside6 accept", "answers come by here"},

	// A client that sends packets of the link's full size would need them cut up where they are wrapped. Most packets pass by both.
	{"leaving", "tcp flags & (syn | rst) == syn jump opening", "TCP connections that begin"},
	{"leaving", "ct state new goto sent", "first packets"},
	{"opening", "ip saddr . meta l4proto . tcp sport @tunnelled4 tcp option maxseg size set " + mss4, "room for a tunnel's header"},
	{"opening", "ip6 saddr . meta l4proto . tcp sport @tunnelled6 tcp option maxseg size set " + mss6, "room for a tunnel's header"},
	{"sent", "ip daddr @vips4 " + noteSent, "sent to VIPs elsewhere"},
	{"sent", "ip6 daddr @vips6 " + noteSent, "sent to VIPs elsewhere"},
}

// version is a hash of sets, chains and rules. Every rule carries it in its comment: nft gives rules back in words of its
// own, which cannot be compared with ours.
var version = func() string {
	var text strings.Builder
	for _, s := range sets {
		fmt.Fprintln(&text, s.Name, s.Type, s.Flags)
	}
	fmt.Fprintln(&text, sentFrom.Name, sentFrom.Type, sentFrom.Flags, *sentFrom.Timeout, *sentFrom.Size)
	for _, m := range maps {
		fmt.Fprintln(&text, m.Name, m.Type)
	}
	for _, c := range chains {
		if c.Hook != nil {
			fmt.Fprintln(&text, c.Name, *c.Type, *c.Hook, *c.Priority)
		}
	}
	for _, r := range rules {
		fmt.Fprintln(&text, r)
	}
	h := fnv.New32a()
	h.Write([]byte(text.String()))
	return fmt.Sprintf("%08x", h.Sum32())
}()

func (r rule) comment() string { return fmt.Sprintf("%s (rules %s)", r.purpose, version) }

// sameRules reports whether the rules of all chains are ours, in our order.
func sameRules(have []*knftables.Rule) bool {
	comments := func(of map[string][]string, chain, comment string) { of[chain] = append(of[chain], comment) }
	got, want := map[string][]string{}, map[string][]string{}
	for _, r := range have {
		comment := ""
		if r.Comment != nil {
			comment = *r.Comment
		}
		comments(got, r.Chain, comment)
	}
	for _, r := range rules {
		comments(want, r.chain, r.comment())
	}
	if len(got) != len(want) {
		return false
	}
	for chain := range want {
		if !slices.Equal(got[chain], want[chain]) {
			return false
		}
	}
	return true
}

// rebuild replaces the table by one with empty sets. Within the transaction no packet sees it so.
func rebuild(tx *knftables.Transaction) {
	table := &knftables.Table{Comment: knftables.PtrTo("VIPs of Fairlead: what it owns on this host")}
	tx.Add(table) // deleting what is not there fails
	tx.Delete(&knftables.Table{})
	tx.Add(table)
	for _, s := range sets {
		tx.Add(s)
	}
	tx.Add(sentFrom)
	for _, c := range chains {
		tx.Add(c)
	}
	for _, m := range maps {
		tx.Add(m)
	}
	for _, r := range rules {
		tx.Add(&knftables.Rule{Chain: r.chain, Rule: r.text, Comment: knftables.PtrTo(r.comment())})
	}
}
