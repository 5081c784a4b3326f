package election

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// TestWhatWasGivenIsKeptWhileTheOtherComesToIt: who gets hundreds of VIPs at once takes longer than HandLimit for the last.
func TestWhatWasGivenIsKeptWhileTheOtherComesToIt(t *testing.T) {
	var now Instant
	e := New(Config{Client: newAPI(), Node: "a", Timing: DefaultTiming(), Clock: func() Instant { return now }})
	e.view.Self = Owner{"a", "1"}
	names := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}
	for i, owner := range []Owner{{"b", "1"}, {"b", "1"}, {"b", "1"}, {"c", "1"}} {
		e.view.Claims[names[i]], e.view.Handed[names[i]] = Claim{Owner: owner, Version: "1"}, 0
		e.view.VIPs = append(e.view.VIPs, VIP{Name: names[i], Candidates: []string{owner.Node}})
	}
	keeps := func(at time.Duration, want ...string) {
		t.Helper()
		now = Instant(at)
		e.forgetHanded(now)
		if kept := slices.Sorted(maps.Keys(e.view.Handed)); !slices.Equal(kept, want) {
			t.Errorf("after %v it keeps %q, want %q", at, kept, want)
		}
	}
	announced := func(at time.Duration, vip string) {
		now = Instant(at)
		e.Announced(vip)
	}
	announced(time.Second, names[0])
	announced(2*time.Second, names[0])
	keeps(2*time.Second, names...) // neighbours need not have heeded these
	announced(3*time.Second, names[0])
	keeps(4*time.Second, names[1:]...)
	keeps(6*time.Second, names[1:3]...) // c announced none of its own
	announced(7*time.Second, names[1])
	keeps(7*time.Second, names[1:3]...) // nor this, of whenever the VIP is
	announced(9*time.Second, names[1])
	keeps(13*time.Second, names[2])
	keeps(15 * time.Second)
}
