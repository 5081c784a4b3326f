package nft

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/pkg/model"
)

// overlapping is one of few frontends, backends and networks, so that two of them have much in common.
func overlapping(random *rand.Rand) State {
	var s State
	some := func() bool { return random.IntN(4) > 0 }
	for i := range 6 {
		vip := netip.AddrFrom4([4]byte{10, 87, 2, byte(i)})
		if !some() {
			continue
		}
		s.VIPs = append(s.VIPs, vip)
		for port := range uint16(2) {
			f := model.Frontend{Addr: vip, Port: 80 + port, Proto: model.TCP}
			if !some() {
				continue
			}
			s.Frontends = append(s.Frontends, f)
			for host := range 6 {
				if some() {
					prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(host)}), 31+host%2).Masked()
					s.SourceRanges = append(s.SourceRanges, model.SourceRange{Frontend: f, Prefix: prefix})
				}
				if source := model.Source(random.IntN(3)); source != model.FromNode {
					backend := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, 0, byte(host)}), 8080)
					s.Translations = append(s.Translations, model.Translation{VIP: vip, Proto: model.TCP, Backend: backend, Source: source})
				}
			}
		}
	}
	slices.SortFunc(s.SourceRanges, func(a, b model.SourceRange) int {
		return cmp.Or(a.Frontend.Compare(b.Frontend), a.Prefix.Compare(b.Prefix))
	})
	s.SourceRanges = slices.Compact(s.SourceRanges)
	slices.SortFunc(s.Translations, model.Translation.Compare)
	s.Translations = slices.Compact(s.Translations)
	for range random.IntN(3) {
		s.Inside = append(s.Inside, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(random.IntN(3)), 0}), 24))
	}
	return s
}

// difference is what leaves and what comes, of sorted elements.
func difference(have, want []element) string {
	without := func(all, others []element) []element {
		return slices.DeleteFunc(slices.Clone(all), func(e element) bool { return slices.Contains(others, e) })
	}
	return fmt.Sprint(without(have, want), without(want, have))
}

// TestWhatIsNarrowedDiffersAsTheWholeDoes compares what leaves and comes between random states, of all of them and of what of
// them differs.
func TestWhatIsNarrowedDiffersAsTheWholeDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		from, to := overlapping(random), overlapping(random)
		have, _ := elementsOf(from)
		want, _ := elementsOf(to)
		narrowHave, narrowWant, err := changing(from, to)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := difference(narrowHave, narrowWant), difference(have, want); got != want {
			t.Fatalf("from %v\nto   %v\nthe difference is\n%s\nwant\n%s", from, to, got, want)
		}
	}
}

func TestOfAChangeOfOneVIPNothingElseIsLookedAt(t *testing.T) {
	var from State
	for i := range 100 {
		vip := netip.AddrFrom4([4]byte{10, 87, 2, byte(i)})
		f := model.Frontend{Addr: vip, Port: 80, Proto: model.TCP}
		from.VIPs, from.Frontends = append(from.VIPs, vip), append(from.Frontends, f)
		from.SourceRanges = append(from.SourceRanges, model.SourceRange{Frontend: f, Prefix: netip.MustParsePrefix("10.0.0.0/8")})
	}
	to := from
	to.VIPs, to.Frontends = slices.Delete(slices.Clone(from.VIPs), 50, 51), slices.Delete(slices.Clone(from.Frontends), 50, 51)
	to.SourceRanges = slices.Delete(slices.Clone(from.SourceRanges), 50, 51)
	have, want, err := changing(from, to)
	if err != nil || len(have) != 4 || len(want) != 0 { // vips4, services4, restricted4, sources4
		t.Errorf("%v and %v are compared, want the four elements of the VIP that leaves: %v", have, want, err)
	}
}
