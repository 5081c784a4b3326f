package nft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"sigs.k8s.io/knftables"

	"github.com/fairlead/fairlead/pkg/model"
)

var _ = []interface {
	Owned(context.Context) ([]netip.Addr, error)
	Sync(context.Context, State) (bool, error)
	Apply(ctx context.Context, from, to State) error
	Delete(context.Context) error
	Intact() (bool, error)
	Verify(context.Context, State) (bool, error)
}{(*Table)(nil), (*Fake)(nil)}

var compareAddrs = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func frontend(addrPort string, proto model.Protocol) model.Frontend {
	a := netip.MustParseAddrPort(addrPort)
	return model.Frontend{Addr: a.Addr(), Port: a.Port(), Proto: proto}
}

func from(f model.Frontend, prefixes ...string) []model.SourceRange {
	var ranges []model.SourceRange
	for _, p := range prefixes {
		ranges = append(ranges, model.SourceRange{Frontend: f, Prefix: netip.MustParsePrefix(p)})
	}
	return ranges
}

var (
	web4, web6 = frontend("10.0.0.100:80", model.TCP), frontend("[fd00::100]:80", model.TCP)
	dns4       = frontend("10.0.0.100:53", model.UDP)
	sctp6      = frontend("[fd00::100]:36412", model.SCTP)
)

var example = State{
	VIPs:         addrs("10.0.0.100", "fd00::100"),
	Frontends:    []model.Frontend{dns4, web4, web6, sctp6},
	SourceRanges: append(from(web4, "192.0.2.0/24", "198.51.100.7/32"), from(web6, "2001:db8::/32")...),
	Translations: []model.Translation{
		translation("10.0.0.100", "10.0.0.1:80", model.TCP, model.FromVIP), translation("fd00::100", "[fd00:1::1]:53", model.UDP, model.FromClient),
	},
	Inside:   []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:1::1/128")},
	Received: []model.Frontend{web4, web6}, Tunnelled: []model.Frontend{web6},
}

func translation(vip, backend string, proto model.Protocol, source model.Source) model.Translation {
	return model.Translation{VIP: netip.MustParseAddr(vip), Backend: netip.MustParseAddrPort(backend), Proto: proto, Source: source}
}

// counting counts the transactions that are run, and how often the table was read.
type counting struct {
	knftables.Interface
	runs, reads int
}

func (c *counting) ListRules(ctx context.Context, chain string) ([]*knftables.Rule, error) {
	c.reads++
	return c.Interface.ListRules(ctx, chain)
}

func (c *counting) Run(ctx context.Context, tx *knftables.Transaction) error {
	c.runs++
	return c.Interface.Run(ctx, tx)
}

func newFake() (*Table, *counting, *knftables.Fake) {
	fake := knftables.NewFake(knftables.InetFamily, tableName)
	count := &counting{Interface: fake}
	forget := func(func(flow) bool) error { return nil }
	return &Table{nft: count, guard: guard{marks: &fakeMarks{}}, forget: forget}, count, fake
}

func synced(t testing.TB, table *Table, want State) bool {
	t.Helper()
	changed, err := table.Sync(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func TestSyncWritesTheSets(t *testing.T) {
	table, _, fake := newFake()
	if !synced(t, table, example) {
		t.Error("the first Sync changed nothing")
	}
	var elements []string
	for line := range strings.Lines(fake.Dump()) {
		if e, ok := strings.CutPrefix(strings.TrimSpace(line), "add element inet fairlead "); ok {
			elements = append(elements, e)
		}
	}
	want := []string{
		"inside4 { 10.244.0.0/16 }", "inside6 { fd00:1::1/128 }",
		"received4 { 10.0.0.100 . 6 . 80 }", "received6 { fd00::100 . 6 . 80 }",
		"restricted4 { 10.0.0.100 . 6 . 80 }",
		"restricted6 { fd00::100 . 6 . 80 }",
		"services4 { 10.0.0.100 . 6 . 80 }", "services4 { 10.0.0.100 . 17 . 53 }",
		"services6 { fd00::100 . 6 . 80 }", "services6 { fd00::100 . 132 . 36412 }",
		"sources4 { 10.0.0.100 . 6 . 80 . 192.0.2.0/24 }", "sources4 { 10.0.0.100 . 6 . 80 . 198.51.100.7/32 }",
		"sources6 { fd00::100 . 6 . 80 . 2001:db8::/32 }",
		"tunnelled6 { fd00::100 . 6 . 80 }",
		"vips4 { 10.0.0.100 }", "vips6 { fd00::100 }",
		"translations4 { 10.0.0.100 . 10.0.0.1 . 6 . 80 : jump fromvip4 }",
		"translations6 { fd00::100 . fd00:1::1 . 17 . 53 : jump fromclient6 }",
	}
	if diff := cmp.Diff(want, elements); diff != "" {
		t.Errorf("elements (-want +got):\n%s", diff)
	}
}

func TestOfTwoSourcesOfABackendTheVIPWins(t *testing.T) {
	state := State{Translations: []model.Translation{
		translation("10.0.0.100", "10.0.0.1:80", model.TCP, model.FromClient), translation("10.0.0.100", "10.0.0.1:80", model.TCP, model.FromVIP),
		translation("10.0.0.100", "10.0.0.1:80", model.UDP, model.FromClient),
	}}
	elements, err := elementsOf(state)
	if err != nil || len(elements) != 2 || elements[0].verdict != "jump fromvip4" || elements[1].verdict != "jump fromclient4" {
		t.Errorf("elements %+v, error %v", elements, err)
	}
	table, _, fake := newFake()
	synced(t, table, state)
	state.Translations = state.Translations[:1] // another verdict under the same key
	if !synced(t, table, state) || !strings.Contains(fake.Dump(), "10.0.0.1 . 6 . 80 : jump fromclient4") {
		t.Errorf("the table says\n%s", fake.Dump())
	}
}

func TestManyNetworksAreExchangedByWritingTheTableAnew(t *testing.T) {
	table, count, fake := newFake()
	exchanged := func(n int) (rebuilt bool) {
		old, now := benchRanges(n), benchRanges(2*n)
		now.SourceRanges = now.SourceRanges[n:]
		synced(t, table, old)
		if err := fake.Run(t.Context(), foreignElement(fake)); err != nil { // an element that no state of ours has
			t.Fatal(err)
		}
		if err := table.Apply(t.Context(), old, now); err != nil {
			t.Fatal(err)
		}
		rebuilt = !strings.Contains(fake.Dump(), "203.0.113.77")
		if synced(t, table, now) == rebuilt {
			t.Errorf("%d networks exchanged: rebuilt %v, and the table is not as wanted", n, rebuilt)
		}
		return rebuilt
	}
	if exchanged(maxNetworksLeaving) || !exchanged(maxNetworksLeaving+1) {
		t.Errorf("want the table written anew from %d networks on, in one transaction; %d were run", maxNetworksLeaving+1, count.runs)
	}
}

func foreignElement(fake *knftables.Fake) *knftables.Transaction {
	tx := fake.NewTransaction()
	tx.Add(&knftables.Element{Set: vips4, Key: []string{"203.0.113.77"}})
	return tx
}

func TestNothingChangedNothingWritten(t *testing.T) {
	table, count, _ := newFake()
	synced(t, table, example)
	count.runs = 0
	if synced(t, table, example) {
		t.Error("a second Sync reports a change")
	}
	if err := table.Apply(t.Context(), example, example); err != nil {
		t.Fatal(err)
	}
	if count.runs != 0 {
		t.Errorf("%d transactions for no change", count.runs)
	}
}

func TestOwnedIsWhatIsInTheTable(t *testing.T) {
	table, _, _ := newFake()
	owned := func() []netip.Addr {
		t.Helper()
		owned, err := table.Owned(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return owned
	}
	if got := owned(); len(got) != 0 {
		t.Errorf("without a table %v are ours", got)
	}
	synced(t, table, example)
	if diff := cmp.Diff(example.VIPs, owned(), compareAddrs); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := table.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := owned(); len(got) != 0 {
		t.Errorf("after Delete %v are ours", got)
	}
}

func TestSyncRestoresWhatWasAltered(t *testing.T) {
	closed := func(c string) *knftables.Rule { return &knftables.Rule{Chain: c, Rule: "drop"} }
	tests := map[string]func(*knftables.Transaction){
		"a rule was added":     func(tx *knftables.Transaction) { tx.Add(closed("vip4")) },
		"a chain was flushed":  func(tx *knftables.Transaction) { tx.Flush(&knftables.Chain{Name: "postrouting"}) },
		"a chain was added":    func(tx *knftables.Transaction) { tx.Add(&knftables.Chain{Name: "new"}); tx.Add(closed("new")) },
		"the table was gone":   func(tx *knftables.Transaction) { tx.Delete(&knftables.Table{}) },
		"a set was flushed":    func(tx *knftables.Transaction) { tx.Flush(&knftables.Set{Name: "services4"}) },
		"an element was added": func(tx *knftables.Transaction) { tx.Add(&knftables.Element{Set: "vips4", Key: []string{"10.0.0.9"}}) },
		"a range was added": func(tx *knftables.Transaction) {
			tx.Add(&knftables.Element{Set: "sources4", Key: []string{"10.0.0.100", "tcp", "80", "10.0.0.1-10.0.0.5"}})
		},
		"rules of another version": func(tx *knftables.Transaction) {
			tx.Flush(&knftables.Chain{Name: "prerouting"})
			for _, r := range rules {
				if r.chain == "prerouting" {
					tx.Add(&knftables.Rule{Chain: r.chain, Rule: r.text, Comment: knftables.PtrTo(strings.Replace(r.comment(), version, "00000000", 1))})
				}
			}
		},
	}
	for name, alter := range tests {
		t.Run(name, func(t *testing.T) {
			table, count, fake := newFake()
			synced(t, table, example)
			good := fake.Dump()
			tx := table.nft.NewTransaction()
			alter(tx)
			if err := fake.Run(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			count.runs = 0
			if !synced(t, table, example) || count.runs != 1 {
				t.Errorf("%d transactions, want 1", count.runs)
			}
			if diff := cmp.Diff(good, fake.Dump()); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAnyHistoryLeadsToTheSameTable goes through random states by Apply and by Sync: both must give the table that a host
// without one gets.
func TestAnyHistoryLeadsToTheSameTable(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	table, _, fake := newFake()
	var last State
	synced(t, table, last)
	for round := range 100 {
		want := randomState(random)
		if random.IntN(2) == 0 {
			synced(t, table, want)
		} else if err := table.Apply(t.Context(), last, want); err != nil {
			t.Fatal(err)
		}
		last = want
		fresh, _, other := newFake()
		synced(t, fresh, want)
		if diff := cmp.Diff(sortedLines(other), sortedLines(fake)); diff != "" {
			t.Fatalf("round %d, table (-want +got):\n%s", round, diff)
		}
	}
}

// sortedLines is the table without the order in which elements were added.
func sortedLines(fake *knftables.Fake) []string { return slices.Sorted(strings.Lines(fake.Dump())) }

func randomState(random *rand.Rand) State {
	var s State
	for i := range 4 {
		vip := netip.MustParseAddr([]string{"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"}[i])
		if random.IntN(3) == 0 {
			continue
		}
		s.VIPs = append(s.VIPs, vip)
		for _, port := range []uint16{80, 443} {
			f := model.Frontend{Addr: vip, Port: port, Proto: []model.Protocol{model.TCP, model.UDP}[random.IntN(2)]}
			s.Frontends = append(s.Frontends, f)
			for range random.IntN(5) {
				bits := []int{8, 16, 23, 24, 32}[random.IntN(5)]
				p, _ := netip.AddrFrom4([4]byte{10, byte(random.IntN(2)), byte(random.IntN(3)), byte(random.IntN(2))}).Prefix(bits)
				if vip.Is6() {
					p, _ = netip.MustParseAddr(fmt.Sprintf("2001:db8:%x::%x", random.IntN(2), random.IntN(3))).Prefix(bits * 4)
				}
				s.SourceRanges = append(s.SourceRanges, model.SourceRange{Frontend: f, Prefix: p})
			}
		}
	}
	return s
}

func TestApplyFailsOnATableThatIsNotAsItTrusts(t *testing.T) {
	table, _, _ := newFake()
	if err := table.Apply(t.Context(), State{}, example); err == nil {
		t.Error("Apply without a table succeeded")
	}
	synced(t, table, State{})
	if err := table.Apply(t.Context(), example, State{}); err == nil {
		t.Error("Apply removed what was not there")
	}
}

func TestAFrontendWithoutPortsIsRefused(t *testing.T) {
	table, count, _ := newFake()
	_, err := table.Sync(t.Context(), State{Frontends: []model.Frontend{{Addr: web4.Addr, Port: 80, Proto: "ICMP"}}})
	if err == nil || !strings.Contains(err.Error(), `10.0.0.100:80 has protocol "ICMP"`) || count.runs != 0 {
		t.Errorf("error %v after %d transactions", err, count.runs)
	}
}

func TestAReadThatFailsIsNoReasonToRebuild(t *testing.T) {
	table, count, _ := newFake()
	synced(t, table, example)
	table.nft = &failing{count}
	count.runs = 0
	if _, err := table.Sync(t.Context(), example); err == nil || count.runs != 0 {
		t.Errorf("error %v after %d transactions", err, count.runs)
	}
}

type failing struct{ knftables.Interface }

func (failing) ListElements(context.Context, string, string) ([]*knftables.Element, error) {
	return nil, errors.New("no memory")
}

func TestTheFakeBehavesLikeATable(t *testing.T) {
	fake := NewFake()
	if changed, err := fake.Sync(t.Context(), example); !changed || err != nil {
		t.Errorf("changed %v, error %v", changed, err)
	}
	if changed, err := fake.Sync(t.Context(), example); changed || err != nil || fake.Writes() != 1 {
		t.Errorf("the second time: changed %v, error %v", changed, err)
	}
	owned, _ := fake.Owned(t.Context())
	if diff := cmp.Diff(example.VIPs, owned, compareAddrs); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
	fake.FailWith(errors.New("no luck"))
	if err := fake.Apply(t.Context(), example, State{}); err == nil || fake.Writes() != 0 {
		t.Errorf("a write that was to fail: error %v", err)
	}
}
