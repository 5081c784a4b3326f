package controller

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

func testBook(addresses ...v1alpha1.AddressRange) (*book, *[]string) {
	var woken []string
	b := newBook(func(who asker) { woken = append(woken, who.Name) }, func(string) {})
	b.setPools([]*v1alpha1.IPPool{{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1alpha1.IPPoolSpec{Addresses: addresses}}})
	return b, &woken
}

func wishOf(name string, age int, families ...pool.Family) *wish {
	w := &wish{asker: types.NamespacedName{Namespace: "default", Name: name}, created: time.Unix(int64(1000-age), 0)}
	for _, family := range families {
		w.needs = append(w.needs, need{family: family})
	}
	return w
}

func vipOf(addr string) *v1alpha1.VIP {
	return &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: addr}, Spec: v1alpha1.VIPSpec{Address: addr}}
}

func TestFreedAddressIsKeptForTheOldestWaiter(t *testing.T) {
	b, woken := testBook("192.0.2.1")
	b.observe(vipOf("192.0.2.1"))
	for _, w := range []*wish{wishOf("young", 1, pool.IPv4), wishOf("old", 9, pool.IPv4), wishOf("middle", 5, pool.IPv4)} {
		if grants, failures := b.reserve(w); len(grants) > 0 || failures[0].result != resultExhausted {
			t.Fatalf("a full pool gave %v, %v", grants, failures)
		}
	}
	b.forgetVIP("192.0.2.1", "")
	if !slices.Equal(*woken, []string{"old"}) {
		t.Fatalf("woke %v", *woken)
	}
	if grants, _ := b.reserve(wishOf("oldest but late", 99, pool.IPv4)); len(grants) > 0 {
		t.Error("a Service that did not wait was given what is another's")
	}
	if grants, _ := b.reserve(wishOf("old", 9, pool.IPv4)); len(grants) != 1 {
		t.Error("the one that was woken got nothing")
	}
	b.settle(types.NamespacedName{Namespace: "default", Name: "old"}) // deleted meanwhile
	if !slices.Equal(*woken, []string{"old", "oldest but late"}) {
		t.Errorf("woke %v", *woken)
	}
}

// TestANewerVIPOfTheSameNameStays: that the earlier one went is told twice, by the answer and by the watch, and anybody may come in
// between.
func TestANewerVIPOfTheSameNameStays(t *testing.T) {
	b, woken := testBook("192.0.2.1")
	at := func(uid types.UID, version string) *v1alpha1.VIP {
		vip := vipOf("192.0.2.1")
		vip.UID, vip.ResourceVersion = uid, version
		return vip
	}
	b.observe(at("old", "1"))
	b.forgetVIP("192.0.2.1", "old")
	b.observe(at("new", "3"))
	b.reserve(wishOf("waits", 1, pool.IPv4))
	b.observe(at("old", "2")) // the watch is late
	b.forgetVIP("192.0.2.1", "old")
	if uid, known := b.knows("192.0.2.1"); !known || uid != "new" || len(*woken) > 0 {
		t.Errorf("the book knows %q (%v), woke %v", uid, known, *woken)
	}
	b.forgetVIP("192.0.2.1", "new")
	if _, known := b.knows("192.0.2.1"); known || !slices.Equal(*woken, []string{"waits"}) {
		t.Errorf("known %v, woke %v", known, *woken)
	}
}

func TestWaiterThatNeedsBothDoesNotBlockOthers(t *testing.T) {
	b, woken := testBook("192.0.2.1")
	b.observe(vipOf("192.0.2.1"))
	both := wishOf("both", 9, pool.IPv4, pool.IPv6)
	both.all = true
	b.reserve(both)
	b.reserve(wishOf("one", 1, pool.IPv4))
	b.forgetVIP("192.0.2.1", "")
	// One lacks IPv6 alone now, and is to say so; the other has what it waits for.
	if !slices.Equal(*woken, []string{"both", "one"}) || len(b.granted[both.asker]) > 0 || len(b.granted[asker{Namespace: "default", Name: "one"}]) != 1 {
		t.Errorf("woke %v, granted %v", *woken, b.granted)
	}
}

func TestPublishedAddressIsNotGivenToAnother(t *testing.T) {
	b, _ := testBook("192.0.2.1-192.0.2.2")
	owner := types.NamespacedName{Namespace: "default", Name: "owner"}
	b.publish(owner, []netip.Addr{netip.MustParseAddr("192.0.2.1")})
	if grants, _ := b.reserve(wishOf("other", 9, pool.IPv4)); grants[0].addr.String() != "192.0.2.2" {
		t.Errorf("other got %v", grants)
	}
	w := wishOf("owner", 1, pool.IPv4)
	w.needs[0].published = netip.MustParseAddr("192.0.2.1")
	if grants, _ := b.reserve(w); len(grants) != 1 || grants[0].addr.String() != "192.0.2.1" {
		t.Errorf("owner got %v", grants)
	}
}

// TestBookNeverGivesAnAddressTwice plays random events and compares the allocator with what the book says is used.
func TestBookNeverGivesAnAddressTwice(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		b, _ := testBook("192.0.2.0/29")
		held := map[string]netip.Addr{} // Service to VIP
		for range 500 {
			name := fmt.Sprint("svc", r.IntN(14))
			w := wishOf(name, r.IntN(5), pool.IPv4)
			addr, has := held[name]
			switch {
			case has && r.IntN(2) == 0:
				b.forgetVIP(addr.String(), "")
				delete(held, name)
			case !has && r.IntN(4) == 0:
				b.settle(w.asker)
			case !has:
				grants, _ := b.reserve(w)
				for _, g := range grants {
					for other, taken := range held {
						if taken == g.addr {
							t.Fatalf("%s is given to %s and %s", g.addr, other, name)
						}
					}
					if r.IntN(3) > 0 {
						held[name] = g.addr
						b.observe(vipOf(g.addr.String()))
						b.done(w.asker, grants)
					}
				}
			}
			used := map[netip.Addr]bool{}
			for _, a := range held {
				used[a] = true
			}
			for a := range b.reserved {
				used[a] = true
			}
			if got := b.usage()["a"][pool.IPv4].Allocated.Int64(); got != int64(len(used)) {
				t.Fatalf("seed %d: %d used, %d counted", seed, len(used), got)
			}
		}
	}
}
