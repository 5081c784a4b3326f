package nft

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strings"

	"sigs.k8s.io/knftables"
)

const outsideName = "fairlead-outside"

// Outside is the table "inet fairlead-outside" of the host in isolated placement: it translates the source of what leaves the
// datapath's namespace, whose addresses nobody else knows, and keeps the host from answering for IPv6 VIPs without leave. Its
// sets vips4 and vips6 are the record of what is ours on the host. Its methods are as those of Table.
type Outside struct {
	nft knftables.Interface
	guard
	cfg    OutsideConfig
	forget func(match func(flow) bool) error
}

// OutsideConfig is the link to the namespace: see package isolated.
type OutsideConfig struct {
	Link             string     // the host's end
	Inside4, Inside6 netip.Addr // of the other end
	Beat             netip.Addr // datagrams to it keep IPv6 VIPs answering for as many seconds as their port says
	BeatMax          int
	// Mark is a bit that leads answers back, of packet and conntrack marks alike.
	Mark uint32
}

// The sets: the record; the IPv6 ones again, as they are found in a neighbour solicitation; and whether that is answered.
const (
	asked = "asked6"
	live  = "live"
)

// solicited is the target of a neighbour solicitation (RFC 4861, section 4.3). nft has no name for it before 1.0.7.
const solicited = "@th,64,128"

var outsideSets = []*knftables.Set{
	{Name: vips4, Type: "ipv4_addr"},
	{Name: vips6, Type: "ipv6_addr"},
	{Name: asked, TypeOf: solicited},
	{Name: live, Type: "nf_proto", Flags: []knftables.SetFlag{knftables.DynamicFlag, knftables.TimeoutFlag}},
}

var outsideChains = []*knftables.Chain{
	{
		Name: "input", Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.InputHook), Priority: knftables.PtrTo(knftables.FilterPriority + "-10"),
	},
	{
		Name: "output", Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.OutputHook), Priority: knftables.PtrTo(knftables.FilterPriority + "-10"),
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
		Name: "prerouting", Type: knftables.PtrTo(knftables.FilterType),
		Hook: knftables.PtrTo(knftables.PreroutingHook), Priority: knftables.PtrTo(knftables.ManglePriority),
	},
	{
		Name: "answers", Type: knftables.PtrTo(knftables.RouteType),
		Hook: knftables.PtrTo(knftables.OutputHook), Priority: knftables.PtrTo(knftables.ManglePriority),
	},
	{Name: "beat"},
}

// rules of the table. Neighbour solicitations are ICMPv6 (58) of type 135.
func (c OutsideConfig) rules() []rule {
	rules := []rule{
		{"input", fmt.Sprintf("meta l4proto 58 icmpv6 type 135 %s @%s meta nfproto != @%s drop", solicited, asked, live), "fence of IPv6 VIPs"},
		{"output", fmt.Sprintf("ip6 daddr %s meta l4proto 17 jump beat", c.Beat), "prolongs it"},
		{"postrouting", fmt.Sprintf("ip saddr %s oifname != %q masquerade", c.Inside4, c.Link), "out of the namespace"},
		{"postrouting", fmt.Sprintf("ip6 saddr %s oifname != %q masquerade", c.Inside6, c.Link), "out of the namespace"},
		{"destination", fmt.Sprintf("ip daddr @%s dnat ip to ip daddr", vips4), "spared the translations of others"},
		{"destination", fmt.Sprintf("ip6 daddr @%s dnat ip6 to ip6 daddr", vips6), "spared the translations of others"},
		{"prerouting", fmt.Sprintf("ip daddr @%s %s drop", vips4, returns), returnsFor},
		{"prerouting", fmt.Sprintf("ip6 daddr @%s %s drop", vips6, returns), returnsFor},
		// A backend that saw the client's address answers to that, and the namespace is not on the way.
		{"prerouting", fmt.Sprintf("iifname %q ct direction original ip saddr != %s ip saddr != @%s ct mark set ct mark | %#x", c.Link, c.Inside4, vips4, c.Mark), "clients that backends see"},
		{"prerouting", fmt.Sprintf("iifname %q ct direction original ip6 saddr != %s ip6 saddr != @%s ct mark set ct mark | %#x", c.Link, c.Inside6, vips6, c.Mark), "clients that backends see"},
		{"prerouting", fmt.Sprintf("iifname != %q ct direction reply ct mark & %#x == %#x meta mark set meta mark | %#x", c.Link, c.Mark, c.Mark, c.Mark), "answers to them"},
		{"answers", fmt.Sprintf("ct direction reply ct mark & %#x == %#x meta mark set meta mark | %#x", c.Mark, c.Mark, c.Mark), "answers to them"},
	}
	for seconds := 1; seconds <= c.BeatMax; seconds++ {
		rules = append(rules, rule{
			"beat", fmt.Sprintf("udp dport %d update @%s { meta nfproto timeout %ds } drop", seconds, live, seconds), "answers so long",
		})
	}
	return rules
}

// version is a hash of the rules; the sets and chains change with them.
func (c OutsideConfig) version() string {
	h := fnv.New32a()
	fmt.Fprint(h, c.rules())
	return fmt.Sprintf("%08x", h.Sum32())
}

// NewOutside checks that nftables can be used.
func NewOutside(cfg OutsideConfig) (*Outside, error) {
	nft, err := program(outsideName)
	if err != nil {
		return nil, fmt.Errorf("nftables cannot be used: %w (needed: the program nft 1.0.6 or later, a kernel with nf_tables for the inet family, CAP_NET_ADMIN)", err)
	}
	marks, err := newMarks(outsideName)
	if err != nil {
		return nil, err
	}
	return &Outside{nft: nft, guard: guard{marks: marks}, cfg: cfg, forget: forget}, nil
}

// Check has the kernel look at all our rules without taking them.
func (o *Outside) Check(ctx context.Context) error {
	tx := o.nft.NewTransaction()
	o.rebuild(tx)
	if err := o.nft.Check(ctx, tx); err != nil {
		return fmt.Errorf("the kernel or the program nft refuses a rule that isolated placement needs: %w (needed: nft 1.0.6 or later, nf_tables with NAT)", err)
	}
	return nil
}

func (o *Outside) rebuild(tx *knftables.Transaction) {
	table := &knftables.Table{Comment: knftables.PtrTo("Fairlead's datapath in a namespace of its own: what of it is on this host")}
	tx.Add(table) // deleting what is not there fails
	tx.Delete(&knftables.Table{})
	tx.Add(table)
	for _, s := range outsideSets {
		tx.Add(s)
	}
	for _, c := range outsideChains {
		tx.Add(c)
	}
	for _, r := range o.cfg.rules() {
		tx.Add(&knftables.Rule{Chain: r.chain, Rule: r.text, Comment: knftables.PtrTo(o.comment(r))})
	}
}

func (o *Outside) comment(r rule) string {
	return fmt.Sprintf("%s (rules %s)", r.purpose, o.cfg.version())
}

// Owned returns the VIPs in the table, sorted. Without the table there are none.
func (o *Outside) Owned(ctx context.Context) ([]netip.Addr, error) {
	var owned []netip.Addr
	for _, set := range []string{vips4, vips6} {
		elements, err := o.nft.ListElements(ctx, "set", set)
		if knftables.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read which VIPs are ours on the host: %w", err)
		}
		for _, e := range elements {
			addr, err := netip.ParseAddr(strings.Join(e.Key, " "))
			if err != nil {
				return nil, fmt.Errorf("read which VIPs are ours on the host: set %s of table inet %s: %w", set, outsideName, err)
			}
			owned = append(owned, addr)
		}
	}
	slices.SortFunc(owned, netip.Addr.Compare)
	return owned, nil
}

// Sync reads the table, makes its record what is wanted, which is sorted, in one transaction, and says whether it had to. A
// table whose rules are not as they should be is replaced, and connections that began without them are forgotten; IPv6 VIPs are
// then answered again from the next datagram on.
func (o *Outside) Sync(ctx context.Context, want []netip.Addr) (changed bool, err error) {
	return o.sync(func() (bool, error) { return o.bring(ctx, want) })
}

// Verify is that of Table, with the record that Sync wrote.
func (o *Outside) Verify(ctx context.Context, want []netip.Addr) (bool, error) {
	return o.verify(func() (bool, error) {
		intact, err := o.asRuled(ctx)
		if err != nil || !intact {
			return false, err
		}
		have, err := o.Owned(ctx)
		return slices.Equal(have, want), err
	})
}

func (o *Outside) bring(ctx context.Context, want []netip.Addr) (changed bool, err error) {
	have, err := o.Owned(ctx)
	if err != nil {
		return false, err
	}
	intact, err := o.asRuled(ctx)
	if err != nil {
		return false, err
	}
	tx := o.nft.NewTransaction()
	if !intact {
		o.rebuild(tx)
		have = nil
	}
	for _, addr := range have {
		if _, wanted := slices.BinarySearchFunc(want, addr, netip.Addr.Compare); !wanted {
			each(addr, func(e *knftables.Element) { tx.Delete(e) })
		}
	}
	for _, addr := range want {
		if _, there := slices.BinarySearchFunc(have, addr, netip.Addr.Compare); !there {
			each(addr, func(e *knftables.Element) { tx.Add(e) })
		}
	}
	if tx.NumOperations() == 0 {
		return false, nil
	}
	if err := o.nft.Run(ctx, tx); err != nil {
		return false, fmt.Errorf("change nftables table inet %s: %w", outsideName, err)
	}
	if !intact {
		err = o.forget(o.cfg.leaking)
	}
	return true, err
}

// each calls f with the elements of an address.
func each(addr netip.Addr, f func(*knftables.Element)) {
	f(&knftables.Element{Set: pick(addr, vips4, vips6), Key: []string{addr.String()}})
	if addr.Is6() {
		bytes := addr.As16()
		f(&knftables.Element{Set: asked, Key: []string{fmt.Sprintf("0x%x", bytes[:])}})
	}
}

// asRuled reports whether the rules are those of the layout.
func (o *Outside) asRuled(ctx context.Context) (bool, error) {
	rules, err := o.nft.ListRules(ctx, "")
	if knftables.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read nftables table inet %s: %w", outsideName, err)
	}
	var have, want []string
	for _, r := range rules {
		have = append(have, r.Chain+": "+comment(r))
	}
	for _, r := range o.cfg.rules() {
		want = append(want, r.chain+": "+o.comment(r))
	}
	slices.Sort(have)
	slices.Sort(want)
	return slices.Equal(have, want), nil
}

func comment(r *knftables.Rule) string {
	if r.Comment == nil {
		return ""
	}
	return *r.Comment
}

// Delete removes the table. One that is gone is no error.
func (o *Outside) Delete(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = nil
	tx := o.nft.NewTransaction()
	tx.Add(&knftables.Table{}) // deleting what is not there fails
	tx.Delete(&knftables.Table{})
	if err := o.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("delete nftables table inet %s: %w", outsideName, err)
	}
	return nil
}
