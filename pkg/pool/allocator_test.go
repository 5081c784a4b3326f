package pool

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func TestAllocateGivesTheLowestFreeAddress(t *testing.T) {
	a := NewAllocator(mustParse(t, "192.0.2.5,192.0.2.1-192.0.2.2,2001:db8::/64"))
	want := []string{"192.0.2.1", "192.0.2.2", "192.0.2.5"}
	for _, w := range want {
		if got, ok := a.Allocate(IPv4); !ok || got.String() != w {
			t.Fatalf("Allocate = %v, %v; want %s", got, ok, w)
		}
	}
	if got, ok := a.Allocate(IPv4); ok || a.Usage(IPv4).Available.Sign() != 0 {
		t.Errorf("a full pool gave %v", got)
	}
	if err := a.Release(netip.MustParseAddr("192.0.2.2")); err != nil {
		t.Fatal(err)
	}
	if got, _ := a.Allocate(IPv4); got.String() != "192.0.2.2" {
		t.Errorf("a released address is not given again: %v", got)
	}
	if got, _ := a.Allocate(IPv6); got.String() != "2001:db8::" {
		t.Errorf("first IPv6 address %v", got)
	}
	u := a.Usage(IPv6)
	if got := fmt.Sprint(u.Capacity, u.Allocated, u.Available); got != "18446744073709551616 1 18446744073709551615" {
		t.Errorf("usage %s", got)
	}
}

func TestTakeAndReleaseSayWhy(t *testing.T) {
	a := NewAllocator(mustParse(t, "192.0.2.0/30"))
	in, out := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.4")
	for _, tc := range []struct {
		name string
		do   func() error
		want error
	}{
		{"release a free one", func() error { return a.Release(in) }, ErrFree},
		{"take", func() error { return a.Take(in) }, nil},
		{"take again", func() error { return a.Take(in) }, ErrTaken},
		{"take a foreign one", func() error { return a.Take(out) }, ErrNotInPool},
		{"release a foreign one", func() error { return a.Release(out) }, ErrNotInPool},
		{"release", func() error { return a.Release(in) }, nil},
	} {
		if err := tc.do(); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if u := a.Usage(IPv4); u.Allocated.Sign() != 0 || len(a.v4.free.nodes) > 3 {
		t.Errorf("after all was released: %v used, %d nodes", u.Allocated, len(a.v4.free.nodes))
	}
}

// naive is the model: one bool an address.
type naive map[netip.Addr]bool

func (m naive) lowest(family Family) (netip.Addr, bool) {
	var low netip.Addr
	for addr, used := range m {
		if !used && FamilyOf(addr) == family && (!low.IsValid() || addr.Less(low)) {
			low = addr
		}
	}
	return low, low.IsValid()
}

func TestAllocatorAgreesWithNaiveModel(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		set := mustParse(t, "192.0.2.0/29,192.0.2.9,192.0.2.12-192.0.2.20,2001:db8::fffe-2001:db8::1:3,2001:db8::2:0/126,198.51.100.250-198.51.101.5")
		set = set.Avoiding(Avoid(seed % 4))
		a, model := NewAllocator(set), naive{}
		for _, s := range set.Ranges() {
			for addr := s.First; s.Contains(addr); addr = addr.Next() {
				if last := addr.As16()[15]; addr.Is6() || !Avoid(seed%4).lastByte(uint64(last)) {
					model[addr] = false
				}
			}
		}
		if got, want := set.Capacity(IPv4).Int64()+set.Capacity(IPv6).Int64(), int64(len(model)); got != want {
			t.Fatalf("avoiding %d: capacity %d, model has %d", seed%4, got, want)
		}
		all := []netip.Addr{netip.MustParseAddr("192.0.2.8"), netip.MustParseAddr("2001:db8::"), netip.MustParseAddr("198.51.100.255")}
		for addr := range model {
			all = append(all, addr)
		}
		for range 400 {
			step(t, r, a, model, all[r.IntN(len(all))])
		}
		checkInvariants(t, a, model)
	}
}

func step(t *testing.T, r *rand.Rand, a *Allocator, model naive, addr netip.Addr) {
	t.Helper()
	used, known := model[addr]
	if got := a.Free(addr); got != (known && !used) {
		t.Fatalf("Free(%s) = %v", addr, got)
	}
	switch r.IntN(3) {
	case 0:
		family := []Family{IPv4, IPv6}[r.IntN(2)]
		want, ok := model.lowest(family)
		if got, gotOK := a.Allocate(family); got != want || gotOK != ok {
			t.Fatalf("Allocate(%s) = %v, %v; want %v", family, got, gotOK, want)
		}
		if ok {
			model[want] = true
		}
	case 1:
		if err := a.Take(addr); (err == nil) != (known && !used) {
			t.Fatalf("Take(%s): %v", addr, err)
		}
		if known {
			model[addr] = true
		}
	case 2:
		if err := a.Release(addr); (err == nil) != (known && used) {
			t.Fatalf("Release(%s): %v", addr, err)
		}
		if known {
			model[addr] = false
		}
	}
}

func checkInvariants(t *testing.T, a *Allocator, model naive) {
	t.Helper()
	used := map[Family]int{}
	for addr, taken := range model {
		if taken {
			used[FamilyOf(addr)]++
		}
	}
	for _, family := range []Family{IPv4, IPv6} {
		if u := a.Usage(family); u.Allocated.Int64() != int64(used[family]) {
			t.Errorf("%s: %v used, model has %d", family, u.Allocated, used[family])
		}
		var last *interval
		tree := &a.space(family).free
		walk(tree, tree.root, func(i *interval) {
			if last != nil && last.last.next().compare(i.first) > 0 {
				t.Errorf("intervals %v and %v overlap or are out of order", last, i)
			}
			last = i
		})
	}
}

func walk(t *intervals, n int32, visit func(*interval)) {
	if n != 0 {
		walk(t, t.nodes[n].left, visit)
		visit(&t.nodes[n].interval)
		walk(t, t.nodes[n].right, visit)
	}
}

// BenchmarkAllocator takes the lowest free address and gives a random used one back, so that holes stay spread out.
func BenchmarkAllocator(b *testing.B) {
	for _, pool := range []struct {
		name, spec string
		family     Family
	}{{"IPv4_8", "10.0.0.0/8", IPv4}, {"IPv6_64", "2001:db8::/64", IPv6}} {
		for _, used := range []int{1, 10_000, 1_000_000} {
			b.Run(fmt.Sprintf("%s/used=%d", pool.name, used), func(b *testing.B) {
				a := NewAllocator(mustParse(b, pool.spec))
				have := make([]netip.Addr, 2*used)
				for i := range have {
					have[i], _ = a.Allocate(pool.family)
				}
				r := rand.New(rand.NewPCG(1, 1))
				r.Shuffle(len(have), func(i, j int) { have[i], have[j] = have[j], have[i] })
				for _, addr := range have[used:] { // half given back: about as many holes as used addresses
					_ = a.Release(addr)
				}
				have = have[:used]
				b.ReportAllocs()
				for b.Loop() {
					i := r.IntN(used)
					if err := a.Release(have[i]); err != nil {
						b.Fatal(err)
					}
					have[i], _ = a.Allocate(pool.family)
				}
			})
		}
	}
}
