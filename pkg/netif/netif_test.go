package netif

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

var _ = []interface {
	Interfaces() ([]Interface, error)
	Bound() ([]model.Binding, error)
	binder
	Refresh([]model.Binding, time.Duration) error
	Watch(context.Context, func())
	Close()
}{(*Kernel)(nil), (*Fake)(nil)}

var compareAddrs = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

func ifi(name string, up bool, prefixes ...string) Interface {
	i := Interface{Name: name, Up: up}
	for _, p := range prefixes {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
	}
	return i
}

// binder is a Kernel or a Fake.
type binder interface {
	Bind([]model.Binding, time.Duration) map[netip.Addr]error
	Unbind([]model.Binding) map[netip.Addr]error
}

func bindOne(k binder, b model.Binding, lifetime time.Duration) error {
	return k.Bind([]model.Binding{b}, lifetime)[b.Addr]
}

func unbind(k binder, bindings ...model.Binding) error {
	return errors.Join(slices.Collect(maps.Values(k.Unbind(bindings)))...)
}

func on(name, addr string) model.Binding {
	return model.Binding{Addr: netip.MustParseAddr(addr), Interface: name}
}

func TestDiff(t *testing.T) {
	a, b, a1 := on("eth0", "10.0.0.100"), on("eth0", "fd00::100"), on("eth1", "10.0.0.100")
	tests := map[string]struct {
		want, have, bind, unbind []model.Binding
		owned                    bool
	}{
		"nothing to do":                               {want: []model.Binding{a, b}, have: []model.Binding{b, a}, owned: true},
		"what is missing is bound":                    {want: []model.Binding{b, a}, bind: []model.Binding{a, b}},
		"what is ours and not wanted is unbound":      {have: []model.Binding{a}, unbind: []model.Binding{a}, owned: true},
		"what is not ours stays":                      {have: []model.Binding{a, b}},
		"a VIP that moves leaves its other interface": {want: []model.Binding{a1}, have: []model.Binding{a}, bind: []model.Binding{a1}, unbind: []model.Binding{a}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bind, unbind := Diff(test.want, test.have, func(netip.Addr) bool { return test.owned })
			if diff := cmp.Diff([][]model.Binding{test.bind, test.unbind}, [][]model.Binding{bind, unbind}, compareAddrs); diff != "" {
				t.Errorf("bind, unbind (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDiffConverges(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	fake := NewFake(ifi("eth0", true), ifi("eth1", true))
	for round := range 200 {
		var want []model.Binding
		for i := range 6 {
			if random.IntN(2) == 0 {
				want = append(want, on([]string{"eth0", "eth1"}[random.IntN(2)], fmt.Sprintf("10.0.0.%d", i)))
			}
		}
		have, _ := fake.Bound()
		bind, leaving := Diff(want, have, func(netip.Addr) bool { return true })
		fake.Unbind(leaving)
		for _, b := range bind {
			if err := bindOne(fake, b, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if have, _ = fake.Bound(); !slices.Equal(have, want) {
			t.Fatalf("round %d: bound %v, want %v", round, have, want)
		}
		fake.Writes()
	}
}

func TestSecondsAreRoundedUp(t *testing.T) {
	for d, want := range map[time.Duration]int{
		0: 1, time.Millisecond: 1, time.Second: 1, 1001 * time.Millisecond: 2, 2900 * time.Millisecond: 3, 3 * time.Second: 3,
	} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%s) = %d, want %d", d, got, want)
		}
	}
}

func TestWatchGathersChangesAndEndsWithItsSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links, addresses := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate)
		var calls atomic.Int32
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tell(t.Context(), links, addresses, func() { calls.Add(1) })
		}()
		network, vip := *subnet("10.0.0.1/24"), *subnet("10.0.0.100/32")
		for _, step := range []struct {
			send  func()
			calls int32
		}{
			{func() { links <- netlink.LinkUpdate{Header: unix.NlMsghdr{Type: unix.RTM_NEWLINK}} }, 1},
			{func() {
				for range 10 {
					links <- netlink.LinkUpdate{Header: unix.NlMsghdr{Type: unix.RTM_DELLINK}}
					addresses <- netlink.AddrUpdate{NewAddr: true, LinkAddress: network}
				}
			}, 2},
			{func() { addresses <- netlink.AddrUpdate{NewAddr: true, LinkAddress: vip} }, 2},
			{func() { addresses <- netlink.AddrUpdate{NewAddr: false, LinkAddress: vip} }, 3},
		} {
			step.send()
			time.Sleep(2 * settle)
			if n := calls.Load(); n != step.calls {
				t.Errorf("%d calls, want %d", n, step.calls)
			}
		}
		close(addresses) // as the library does after an error, such as a buffer that overflowed
		<-ended
	})
}

func subnet(s string) *net.IPNet {
	ip, n, _ := net.ParseCIDR(s)
	n.IP = ip
	return n
}

func TestTheFakeTellsOfChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := NewFake(ifi("eth0", true))
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		go fake.Watch(ctx, func() { calls++ })
		synctest.Wait()
		vip := on("eth0", "10.0.0.1")
		if err := bindOne(fake, vip, time.Second); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if calls != 1 {
			t.Errorf("%d calls after the start and a bind, want 1", calls)
		}
		fake.Expire(vip)
		synctest.Wait()
		if have, _ := fake.Bound(); calls != 2 || len(have) != 0 {
			t.Errorf("after a lifetime ended: %d calls, bound %v", calls, have)
		}
		cancel()
	})
}
