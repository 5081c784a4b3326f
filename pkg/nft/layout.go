package nft

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"
)

// The sets, of each family.
const (
	vips4, vips6             = "vips4", "vips6"             // our VIPs
	services4, services6     = "services4", "services6"     // open frontends
	restricted4, restricted6 = "restricted4", "restricted6" // frontends that are open to their sources only
	sources4, sources6       = "sources4", "sources6"       // frontends with the networks that may connect
)

var interval = []knftables.SetFlag{knftables.IntervalFlag}

var sets = []*knftables.Set{
	{Name: vips4, Type: "ipv4_addr"},
	{Name: vips6, Type: "ipv6_addr"},
	{Name: services4, Type: "ipv4_addr . inet_proto . inet_service"},
	{Name: services6, Type: "ipv6_addr . inet_proto . inet_service"},
	{Name: restricted4, Type: "ipv4_addr . inet_proto . inet_service"},
	{Name: restricted6, Type: "ipv6_addr . inet_proto . inet_service"},
	{Name: sources4, Type: "ipv4_addr . inet_proto . inet_service . ipv4_addr", Flags: interval},
	{Name: sources6, Type: "ipv6_addr . inet_proto . inet_service . ipv6_addr", Flags: interval},
}

// Priorities of the hooks, relative to what is named in linux/netfilter_ipv4.h: prerouting before DNAT (-100) and after
// conntrack (-200), postrouting before the masquerading of kube-proxy and CNIs (100).
const (
	prePriority  knftables.BaseChainPriority = knftables.DNATPriority + "-10"
	postPriority knftables.BaseChainPriority = knftables.SNATPriority + "-5"
)

var chains = []*knftables.Chain{
	{Name: "vip4"},
	{Name: "vip6"},
	{
		Name: "prerouting", Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.PreroutingHook), Priority: knftables.PtrTo(prePriority),
	},
	{
		Name: "postrouting", Type: knftables.PtrTo(knftables.NATType),
		Hook: knftables.PtrTo(knftables.PostroutingHook), Priority: knftables.PtrTo(postPriority),
	},
}

// rule is a rule of the table with what it is for.
type rule struct {
	chain, text, purpose string
}

// Transport protocols are written as their numbers (TCP 6, UDP 17, SCTP 132; ICMP 1, ICMPv6 58): for their names nft
// wants a file /etc/protocols, which small container images have not got. Where a set has intervals, the protocol is read
// from the IP header: nft 1.0.6 converts the byte order of "meta l4proto" there as if it had two bytes, which kernel 7.2
// refuses. So an IPv6 packet with extension headers does not match a restricted frontend's sources, and is dropped.
var rules = []rule{
	{"prerouting", "ip daddr @vips4 fib daddr type local jump vip4", "our VIPs, where bound"},
	{"prerouting", "ip6 daddr @vips6 fib daddr type local jump vip6", "our VIPs, where bound"},

	{"vip4", "ct direction reply accept", "answers to this node's own connections"},
	{"vip4", "meta l4proto 1 accept", "ICMP"},
	{"vip4", "meta l4proto != { 6, 17, 132 } drop", "other protocols"},
	{"vip4", "ip daddr . meta l4proto . th dport != @services4 drop", "closed ports"},
	{"vip4", "ip daddr . meta l4proto . th dport @restricted4 ip daddr . ip protocol . th dport . ip saddr != @sources4 drop", "source ranges"},

	{"vip6", "ct direction reply accept", "answers to this node's own connections"},
	{"vip6", "meta l4proto 58 accept", "ICMPv6"},
	{"vip6", "meta l4proto != { 6, 17, 132 } drop", "other protocols"},
	{"vip6", "ip6 daddr . meta l4proto . th dport != @services6 drop", "closed ports"},
	{"vip6", "ip6 daddr . meta l4proto . th dport @restricted6 ip6 daddr . ip6 nexthdr . th dport . ip6 saddr != @sources6 drop", "source ranges"},

	// A backend must answer to this node, not to the client past it.
	{"postrouting", "ct original ip daddr @vips4 ip daddr != @vips4 ct status & dnat == 0 masquerade", "forwarded by IPVS"},
	{"postrouting", "ct original ip6 daddr @vips6 ip6 daddr != @vips6 ct status & dnat == 0 masquerade", "forwarded by IPVS"},
}

// version is a hash of sets, chains and rules. Every rule carries it in its comment: nft gives rules back in words of its
// own, which cannot be compared with ours.
var version = func() string {
	var text strings.Builder
	for _, s := range sets {
		fmt.Fprintln(&text, s.Name, s.Type, s.Flags)
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
	for _, c := range chains {
		tx.Add(c)
	}
	for _, r := range rules {
		tx.Add(&knftables.Rule{Chain: r.chain, Rule: r.text, Comment: knftables.PtrTo(r.comment())})
	}
}
