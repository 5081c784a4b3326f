package nft

import (
	"errors"
	"testing"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
)

// fakeMarks is a kernel whose rules anybody may change.
type fakeMarks struct {
	number uint32
	chains []counted
	asked  int // for the shape
	err    error
}

func (f *fakeMarks) generation() (uint32, error) { return f.number, f.err }

func (f *fakeMarks) shape() ([]counted, error) { f.asked++; return f.chains, f.err }

func TestIntactLooksOnlyAfterSomebodyChangedRules(t *testing.T) {
	table, _, _ := newFake()
	kernel := &fakeMarks{number: 7, chains: []counted{{"vip4", 3, 5}}}
	table.marks = kernel
	intact := func(want bool) {
		t.Helper()
		if got, err := table.Intact(); got != want || err != nil {
			t.Errorf("intact %v, error %v; want %v", got, err, want)
		}
	}
	intact(true) // nothing is known yet
	synced(t, table, example)
	kernel.asked = 0
	intact(true)
	if kernel.asked != 0 {
		t.Error("nobody changed a rule, and the chains were listed")
	}
	kernel.number++
	intact(true)
	intact(true)
	if kernel.asked != 1 {
		t.Errorf("somebody changed a rule elsewhere, once, and the chains were listed %d times", kernel.asked)
	}
	kernel.number, kernel.chains = 9, []counted{{"vip4", 3, 0}}
	intact(false)
	kernel.chains = nil
	intact(false)
	kernel.err = errors.New("no answer")
	if got, err := table.Intact(); !got || err == nil {
		t.Errorf("without an answer: intact %v, error %v", got, err)
	}
}

func TestKernelIntactNoticesWhatOthersDo(t *testing.T) {
	for name, test := range map[string]struct {
		intact  bool
		command []string
	}{
		"another table comes":           {true, []string{"add", "table", "ip", "kube-proxy"}},
		"our table is deleted":          {false, []string{"delete", "table", "inet", tableName}},
		"all rules are flushed":         {false, []string{"flush", "ruleset"}},
		"our rules are flushed":         {false, []string{"flush", "table", "inet", tableName}},
		"the rules of one chain go":     {false, []string{"flush", "chain", "inet", tableName, "postrouting"}},
		"a rule is added to a chain":    {false, []string{"add", "rule", "inet", tableName, "vip4", "accept"}},
		"an element comes, by our hand": {true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			table, _ := realTable(t)
			synced(t, table, example)
			if intact, err := table.Intact(); !intact || err != nil {
				t.Fatalf("after a Sync: intact %v, error %v", intact, err)
			}
			if test.command != nil {
				nft(t, test.command...)
			} else if err := table.Apply(t.Context(), example, State{VIPs: addrs("10.0.0.101")}); err != nil {
				t.Fatal(err)
			}
			if intact, err := table.Intact(); intact != test.intact || err != nil {
				t.Errorf("intact %v, error %v; want %v", intact, err, test.intact)
			}
			synced(t, table, example)
			if intact, err := table.Intact(); !intact || err != nil {
				t.Errorf("after a second Sync: intact %v, error %v", intact, err)
			}
		})
	}
}

// TestKernelIntactNoticesATableOfTheSameLook: a table that was replaced by one with as many rules is not ours.
func TestKernelIntactNoticesATableOfTheSameLook(t *testing.T) {
	table, _ := realTable(t)
	synced(t, table, example)
	before := table.left.shape
	tx := table.nft.NewTransaction()
	rebuild(tx)
	if err := table.nft.Run(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	if intact, err := table.Intact(); intact || err != nil {
		t.Errorf("intact %v, error %v, with chains %v before", intact, err, before)
	}
}

func TestKernelVerifyReadsOnlyWhatOthersMayHaveTouched(t *testing.T) {
	table, count := realTable(t)
	verify := func(when string, state State, want, reads bool) {
		t.Helper()
		count.reads = 0
		if got, err := table.Verify(t.Context(), state); got != want || err != nil {
			t.Errorf("%s: as wanted %v, error %v; want %v", when, got, err, want)
		}
		if (count.reads > 0) != reads {
			t.Errorf("%s: the table was read %d times", when, count.reads)
		}
	}
	verify("before the first Sync", example, true, false)
	synced(t, table, example)
	verify("after it", example, true, false)
	less := example
	less.Frontends = less.Frontends[:2]
	if err := table.Apply(t.Context(), example, less); err != nil {
		t.Fatal(err)
	}
	verify("after an Apply", less, true, false)
	nft(t, "add", "table", "ip", "foreign")
	verify("after somebody added a table", less, true, true)
	verify("once more", less, true, false)
	nft(t, "add", "table", "ip", "other")
	if err := table.Apply(t.Context(), less, example); err != nil {
		t.Fatal(err)
	}
	verify("after somebody, and then an Apply", example, true, true)
	nft(t, "delete", "element", "inet", tableName, "vips4", "{ 10.0.0.100 }")
	verify("without an element", example, false, true)
	if intact, err := table.Intact(); !intact || err != nil {
		t.Errorf("Intact, which sees no elements, says %v, error %v", intact, err)
	}
	if !synced(t, table, example) {
		t.Error("Sync did not put the element back")
	}
	nft(t, "add", "element", "inet", tableName, "services4", "{ 10.0.0.100 . tcp . 22 }")
	verify("with an element too many", example, false, true)
	nft(t, "delete", "table", "inet", tableName)
	verify("without the table", example, false, true)
}

func TestKernelVerifyOfTheOutside(t *testing.T) {
	netnstest.Enter(t)
	o, err := NewOutside(outsideConfig)
	if err != nil {
		t.Fatal(err)
	}
	want := addrs("10.0.0.1", "fd00::1")
	if _, err := o.Sync(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		command []string
		want    bool
	}{
		{[]string{"add", "table", "ip", "foreign"}, true},
		{[]string{"delete", "element", "inet", outsideName, "vips4", "{ 10.0.0.1 }"}, false},
		{[]string{"add", "element", "inet", outsideName, "vips4", "{ 10.0.0.1 }"}, true},
		{[]string{"flush", "chain", "inet", outsideName, "output"}, false},
	} {
		nft(t, test.command...)
		if got, err := o.Verify(t.Context(), want); got != test.want || err != nil {
			t.Errorf("after nft %v: as wanted %v, error %v; want %v", test.command, got, err, test.want)
		}
	}
}
