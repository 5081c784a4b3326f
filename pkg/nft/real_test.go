package nft

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/knftables"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/model"
)

// realTable returns the table of a fresh namespace, counting what it writes.
func realTable(t testing.TB) (*Table, *counting) {
	t.Helper()
	netnstest.Enter(t)
	table, err := New()
	if err != nil {
		t.Fatal(err)
	}
	count := &counting{Interface: table.nft}
	table.nft = count
	return table, count
}

func nft(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestKernelTableIsReadBackAsWritten(t *testing.T) {
	table, count := realTable(t)
	if tables := nft(t, "list tables"); tables != "" {
		t.Errorf("looking whether nftables works made %q", tables)
	}
	if owned, err := table.Owned(t.Context()); len(owned) != 0 || err != nil {
		t.Errorf("without a table: owned %v, error %v", owned, err)
	}
	if !synced(t, table, example) || count.runs != 1 {
		t.Errorf("%d transactions, want 1", count.runs)
	}
	have, intact, err := table.read(t.Context())
	if err != nil || !intact {
		t.Fatalf("intact %v, error %v: %s", intact, err, nft(t, "list", "ruleset"))
	}
	want, _ := elementsOf(example)
	for _, e := range want {
		if !contains(have, e) {
			t.Errorf("missing: %v", e)
		}
	}
	if len(have) != len(want) {
		t.Errorf("%d elements, want %d", len(have), len(want))
	}
	if synced(t, table, example) || count.runs != 1 {
		t.Error("nothing changed, and a transaction was made")
	}
	owned, err := table.Owned(t.Context())
	if diff := cmp.Diff(example.VIPs, owned, compareAddrs); diff != "" || err != nil {
		t.Errorf("error %v, owned (-want +got):\n%s", err, diff)
	}
}

func contains(all []element, e element) bool {
	for _, other := range all {
		if other == e {
			return true
		}
	}
	return false
}

func TestKernelDeletesOnlyItsOwnTable(t *testing.T) {
	table, _ := realTable(t)
	nft(t, "add table inet theirs")
	synced(t, table, example)
	for range 2 {
		if err := table.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := nft(t, "list tables"); got != "table inet theirs\n" {
		t.Errorf("tables after Delete: %q", got)
	}
}

func TestKernelRestoresWhatWasAltered(t *testing.T) {
	for name, command := range map[string]string{
		"a rule was added":              "add rule inet fairlead vip4 accept",
		"a rule was inserted":           "insert rule inet fairlead prerouting accept",
		"a chain was flushed":           "flush chain inet fairlead vip6",
		"a chain was deleted":           "delete chain inet fairlead postrouting",
		"a set was flushed":             "flush set inet fairlead services4",
		"an element was added":          "add element inet fairlead vips4 { 10.9.9.9 }",
		"a range was added":             "add element inet fairlead sources4 { 10.0.0.100 . udp . 1 . 10.0.0.1-10.0.0.5 }",
		"the table was deleted":         "delete table inet fairlead",
		"everything was flushed":        "flush ruleset",
		"the table holds rules no more": "flush table inet fairlead",
	} {
		t.Run(name, func(t *testing.T) {
			table, count := realTable(t)
			synced(t, table, example)
			good := nft(t, "list", "ruleset")
			nft(t, command)
			count.runs = 0
			if !synced(t, table, example) || count.runs != 1 {
				t.Errorf("%d transactions, want 1", count.runs)
			}
			if diff := cmp.Diff(good, nft(t, "list", "ruleset")); diff != "" {
				t.Errorf("ruleset (-want +got):\n%s", diff)
			}
		})
	}
}

// TestKernelTakesAnySourceRanges goes through random overlapping networks: in one transaction wider ones replace narrower
// ones and the other way round.
func TestKernelTakesAnySourceRanges(t *testing.T) {
	table, _ := realTable(t)
	random := rand.New(rand.NewPCG(7, 8))
	var last State
	synced(t, table, last)
	for round := range 25 {
		want := randomState(random)
		if err := table.Apply(t.Context(), last, want); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		last = want
		if synced(t, table, want) {
			t.Fatalf("round %d: Apply left Sync something to do", round)
		}
	}
	for _, sources := range [][]string{{"10.0.0.0/8"}, {"10.1.0.0/16", "10.2.0.0/16"}, {"0.0.0.0/0"}, {"10.1.0.0/17", "10.1.128.0/17"}, {"10.0.0.0/15"}} {
		want := State{VIPs: example.VIPs, Frontends: example.Frontends, SourceRanges: from(web4, sources...)}
		if err := table.Apply(t.Context(), last, want); err != nil {
			t.Fatalf("sources %v: %v", sources, err)
		}
		last = want
		if synced(t, table, want) {
			t.Fatalf("sources %v: Apply left Sync something to do", sources)
		}
	}
}

func TestKernelApplyThatFailsChangesNothing(t *testing.T) {
	table, _ := realTable(t)
	synced(t, table, example)
	before := nft(t, "list", "ruleset")
	wrong := State{VIPs: addrs("10.9.9.9")}
	if err := table.Apply(t.Context(), wrong, State{VIPs: addrs("10.0.0.200")}); err == nil || !knftables.IsNotFound(err) {
		t.Errorf("error %v", err)
	}
	if diff := cmp.Diff(before, nft(t, "list", "ruleset")); diff != "" {
		t.Errorf("ruleset (-want +got):\n%s", diff)
	}
}

func benchState(n int) State {
	var s State
	for i := range n {
		vip := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		s.VIPs = append(s.VIPs, vip)
		s.Frontends = append(s.Frontends, model.Frontend{Addr: vip, Port: 80, Proto: model.TCP})
	}
	return s
}

func BenchmarkElements(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("frontends=%d", n), func(b *testing.B) {
			s := benchState(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := elementsOf(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchRanges is one restricted frontend with n networks, of which no two are halves of one.
func benchRanges(n int) State {
	s := State{VIPs: addrs("10.0.0.100"), Frontends: []model.Frontend{web4}}
	for i := range n {
		network := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i), 0}), 25)
		s.SourceRanges = append(s.SourceRanges, model.SourceRange{Frontend: web4, Prefix: network})
	}
	return s
}

// BenchmarkKernel measures what nft and a kernel take: all at once, a restart that finds nothing to do, and one change; of
// frontends, and of the networks that may connect to one of them.
func BenchmarkKernel(b *testing.B) {
	for _, what := range []struct {
		name  string
		state func(int) State
	}{{"frontends", benchState}, {"prefixes", benchRanges}} {
		for _, n := range []int{1000, 10000} {
			benchKernel(b, fmt.Sprintf("%s=%d", what.name, n), what.state(n), what.state(n-1))
		}
	}
}

func benchKernel(b *testing.B, name string, s, less State) {
	b.Run("cold/"+name, func(b *testing.B) {
		table, _ := realTable(b)
		b.ReportAllocs()
		for b.Loop() {
			synced(b, table, s)
			b.StopTimer()
			if err := table.Delete(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("unchanged/"+name, func(b *testing.B) {
		table, _ := realTable(b)
		synced(b, table, s)
		b.ReportAllocs()
		for b.Loop() {
			if synced(b, table, s) {
				b.Fatal("a write")
			}
		}
	})
	b.Run("one/"+name, func(b *testing.B) {
		table, _ := realTable(b)
		synced(b, table, s)
		b.ReportAllocs()
		for from, to := s, less; b.Loop(); from, to = to, from {
			if err := table.Apply(b.Context(), from, to); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkKernelExchange exchanges all networks of a frontend for others, as a list of source ranges that is kept elsewhere is.
func BenchmarkKernelExchange(b *testing.B) {
	table, _ := realTable(b)
	states := [2]State{benchRanges(3000), benchRanges(6000)}
	states[1].SourceRanges = states[1].SourceRanges[3000:]
	synced(b, table, states[0])
	for i := 0; b.Loop(); i++ {
		if err := table.Apply(b.Context(), states[i%2], states[(i+1)%2]); err != nil {
			b.Fatal(err)
		}
	}
}
