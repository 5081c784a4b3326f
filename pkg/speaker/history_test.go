package speaker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/nft"
)

// past is a node whose wanted state changes at random, one thing after the other. Lists in which nothing changes stay the very
// ones, as a Planner has them.
type past struct {
	*rand.Rand
	*fakes
	datapath *Datapath
	want     model.NodeState
}

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 87, 2, byte(10 + i)}) }

// change changes one thing of what is wanted, or of what the kernel has.
func (p *past) change(t *testing.T) string {
	i := p.IntN(5)
	addr := address(i)
	wants := slices.Contains(p.want.VIPs, addr)
	switch p.IntN(8) {
	case 0:
		p.want.VIPs = toggle(p.want.VIPs, addr, netip.Addr.Compare)
		if wants {
			p.without(addr)
		}
		return fmt.Sprintf("VIP %s", addr)
	case 1:
		if binding := (model.Binding{Addr: addr, Interface: "eth0"}); wants {
			p.want.Bindings = toggle(p.want.Bindings, binding, func(a, b model.Binding) int { return a.Addr.Compare(b.Addr) })
		}
		return fmt.Sprintf("binding of %s", addr)
	case 2, 3:
		if wants {
			port := uint16(80 + p.IntN(2))
			other := server(addr, port, fmt.Sprintf("10.244.1.%d:8080", 1+p.IntN(3)))
			p.want.Servers = slices.DeleteFunc(slices.Clone(p.want.Servers), func(s model.Server) bool { return s.Frontend == other.Frontend })
			if p.IntN(3) > 0 {
				p.want.Servers = append(p.want.Servers, other)
				slices.SortFunc(p.want.Servers, func(a, b model.Server) int { return a.Compare(b.Frontend) })
			}
		}
		return fmt.Sprintf("a server of %s", addr)
	case 4:
		if wants {
			receiver := model.Receiver{Frontend: model.Frontend{Addr: addr, Port: 90, Proto: model.TCP}}
			p.want.Receivers = toggle(p.want.Receivers, receiver, func(a, b model.Receiver) int { return a.Compare(b.Frontend) })
		}
		return fmt.Sprintf("a receiver of %s", addr)
	case 5:
		if failed := p.addresses.Unbind([]model.Binding{{Addr: addr, Interface: "eth0"}}); len(failed) > 0 {
			t.Fatal(failed)
		}
		if p.IntN(2) == 0 {
			p.datapath.DoubtAddresses() // as who watches the interfaces has it
		} else if _, _, err := p.datapath.Refresh(); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("somebody unbound %s", addr)
	case 6:
		p.datapath.Distrust()
		return "distrust"
	}
	p.table.FailWith(errors.New("the table cannot be written"))
	_, err := p.datapath.Apply(context.Background(), p.want, p.IntN(2) == 0)
	p.table.FailWith(nil)
	return fmt.Sprintf("an Apply that ended with %v", err)
}

// without drops what is of a VIP.
func (p *past) without(addr netip.Addr) {
	p.want.Bindings = slices.DeleteFunc(slices.Clone(p.want.Bindings), func(b model.Binding) bool { return b.Addr == addr })
	p.want.Servers = slices.DeleteFunc(slices.Clone(p.want.Servers), func(s model.Server) bool { return s.Addr == addr })
	p.want.Receivers = slices.DeleteFunc(slices.Clone(p.want.Receivers), func(r model.Receiver) bool { return r.Addr == addr })
}

// toggle puts an item into a sorted list, or takes it out, in a list of its own.
func toggle[T comparable](list []T, item T, order func(a, b T) int) []T {
	if i := slices.Index(list, item); i >= 0 {
		return slices.Delete(slices.Clone(list), i, i+1)
	}
	list = append(slices.Clone(list), item)
	slices.SortFunc(list, order)
	return list
}

// TestWhateverCameBeforeTheKernelIsAsWanted goes through random histories with one Datapath: what it takes for known must never
// keep the kernel from being what a node that knows nothing would make of it.
func TestWhateverCameBeforeTheKernelIsAsWanted(t *testing.T) {
	synctest.Test(t, goThroughHistories)
}

func goThroughHistories(t *testing.T) {
	for seed := range uint64(150) {
		f := newFakes(nft.NewFake())
		f.right = time.Minute
		p := &past{Rand: rand.New(rand.NewPCG(seed, 1)), fakes: f, datapath: f.datapath()}
		for step := range 40 {
			done := p.change(t)
			if p.IntN(4) == 0 {
				continue // several changes at once
			}
			outcome := apply(t, p.datapath, p.want)
			if !slices.Equal(outcome.Bound, p.want.Bindings) {
				t.Fatalf("history %d, step %d (%s): bound are said to be %v at once, want %v", seed, step, done, outcome.Bound, p.want.Bindings)
			}
			if outcome.Again > 0 && p.IntN(2) == 0 {
				continue // what comes next meets VIPs that are being forgotten
			}
			for outcome.Again > 0 {
				time.Sleep(outcome.Again)
				outcome = apply(t, p.datapath, p.want)
			}
			fresh := newFakes(nft.NewFake())
			apply(t, fresh.datapath(), p.want)
			if got, want := f.written(t), fresh.written(t); got != want {
				t.Fatalf("history %d, step %d (%s): the kernel has\n%s\nwant\n%s", seed, step, done, got, want)
			}
			if !slices.Equal(outcome.Bound, p.want.Bindings) {
				t.Fatalf("history %d, step %d (%s): bound are said to be %v, want %v", seed, step, done, outcome.Bound, p.want.Bindings)
			}
			if again := apply(t, p.datapath, p.want); again.Writes != 0 {
				t.Fatalf("history %d, step %d (%s): the same state again made %d writes", seed, step, done, again.Writes)
			}
		}
	}
}

// written is all that the kernel has.
func (f *fakes) written(t *testing.T) string {
	t.Helper()
	servers, err := f.servers.Servers()
	if err != nil {
		t.Fatal(err)
	}
	table := f.table.State()
	return fmt.Sprintf("VIPs %v, open %v, servers %v, bound %v, announced %v, received %v",
		table.VIPs, table.Frontends, servers, f.bound(t), f.announcer.Announced(), f.addresses.Receivers())
}
