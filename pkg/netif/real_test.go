package netif

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/model"
)

// real returns the interfaces of a fresh namespace that has eth0 with 10.0.0.1/24 and fd00::1/64.
func real(t testing.TB) *Kernel {
	t.Helper()
	netnstest.Enter(t)
	check(t, netnstest.Dummy("eth0", "10.0.0.1/24", "fd00::1/64"))
	k, err := New()
	check(t, err)
	t.Cleanup(k.Close)
	return k
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func bound(t testing.TB, k *Kernel) []model.Binding {
	t.Helper()
	have, err := k.Bound()
	check(t, err)
	return have
}

func TestKernelListsInterfaces(t *testing.T) {
	k := real(t)
	check(t, netnstest.Dummy("eth1"))
	check(t, netnstest.Link("eth1", false))
	check(t, bindOne(k, on("eth0", "10.9.9.9"), time.Minute))
	check(t, bindOne(k, on("eth0", "fd09::9"), time.Minute))
	have, err := k.Interfaces()
	check(t, err)
	have = slices.DeleteFunc(have, func(i Interface) bool { return !strings.HasPrefix(i.Name, "eth") }) // the kernel's tunnels
	for i := range have {
		if len(have[i].MAC) != 6 || have[i].Index == 0 {
			t.Errorf("%s has MAC %s and index %d", have[i].Name, have[i].MAC, have[i].Index)
		}
		have[i].MAC, have[i].Index = nil, 0
	}
	want := []Interface{ifi("eth0", true, "10.0.0.0/24", "fd00::/64"), ifi("eth1", false)}
	if diff := cmp.Diff(want, have, compareAddrs); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

func TestKernelBindsAndUnbinds(t *testing.T) {
	k := real(t)
	vips := []model.Binding{on("eth0", "10.0.0.100"), on("eth0", "fd00::100")}
	if have := bound(t, k); len(have) != 0 {
		t.Errorf("the node's own addresses are listed: %v", have)
	}
	for range 2 { // the second time it is a refresh
		for _, b := range vips {
			check(t, bindOne(k, b, 30*time.Second))
		}
	}
	if diff := cmp.Diff(vips, bound(t, k), compareAddrs); diff != "" {
		t.Errorf("bound (-want +got):\n%s", diff)
	}
	for _, addr := range []string{"10.0.0.100/32", "fd00::100/128"} {
		flags, preferred, valid, found, err := netnstest.Lifetimes(addr)
		check(t, err)
		if !found || preferred != 0 || valid < 29 || valid > 30 {
			t.Errorf("%s: found %v, preferred_lft %d, valid_lft %d; want 0 and 30", addr, found, preferred, valid)
		}
		want := unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_DEPRECATED
		if strings.Contains(addr, ".") {
			want = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_DEPRECATED
		}
		if flags&want != want || flags&unix.IFA_F_TENTATIVE != 0 {
			t.Errorf("%s has flags %#x, want %#x among them and not to be tentative", addr, flags, want)
		}
	}
	for range 2 { // the second time they are gone already
		check(t, unbind(k, vips...))
	}
	if have := bound(t, k); len(have) != 0 {
		t.Errorf("still bound: %v", have)
	}
	check(t, unbind(k, on("eth9", "10.0.0.100")))
}

// A neighbour that had a VIP before must not get what is sent to it after it has left here.
func TestKernelForgetsWhoHadAVIPBefore(t *testing.T) {
	k := real(t)
	link, err := k.link("eth0")
	check(t, err)
	vips := []model.Binding{on("eth0", "10.0.0.100"), on("eth0", "fd00::100")}
	for _, b := range append(vips, on("eth0", "fd00::101")) {
		check(t, k.handle.NeighAdd(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, IP: b.Addr.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}, State: netlink.NUD_STALE,
		}))
	}
	for _, b := range vips {
		check(t, bindOne(k, b, time.Minute))
	}
	left, err := k.handle.NeighList(link.Attrs().Index, netlink.FAMILY_ALL)
	check(t, err)
	left = slices.DeleteFunc(left, func(n netlink.Neigh) bool { return n.State == netlink.NUD_NOARP }) // the kernel's own
	if len(left) != 1 || left[0].IP.String() != "fd00::101" {
		t.Errorf("neighbours after that: %v, want that of fd00::101 only", left)
	}
}

func TestKernelVIPIsNeverASource(t *testing.T) {
	k := real(t)
	check(t, bindOne(k, on("eth0", "fd00::100"), time.Minute))
	check(t, bindOne(k, on("eth0", "10.0.0.100"), time.Minute))
	for _, to := range []string{"[fd00::99]:9", "10.0.0.99:9"} {
		conn, err := net.Dial("udp", to)
		check(t, err)
		defer conn.Close()
		if from := netip.MustParseAddrPort(conn.LocalAddr().String()).Addr(); from != netip.MustParseAddr("fd00::1") && from != netip.MustParseAddr("10.0.0.1") {
			t.Errorf("the node talks to %s as %s", to, from)
		}
	}
}

func TestKernelAddressLeavesAfterItsLifetime(t *testing.T) {
	k := real(t)
	kept, left := []model.Binding{on("eth0", "10.0.0.100"), on("eth0", "fd00::100")}, []model.Binding{on("eth0", "10.0.0.101"), on("eth0", "fd00::101")}
	check(t, k.Refresh(append(left, kept...), 2*time.Second)) // which binds what is not there
	if have := bound(t, k); len(have) != 4 {
		t.Fatalf("bound: %v", have)
	}
	start := time.Now()
	for len(bound(t, k)) == 4 || len(bound(t, k)) == 3 {
		check(t, k.Refresh(kept, 2*time.Second))
		if time.Since(start) > 5*time.Second {
			t.Fatalf("after %s still bound: %v", time.Since(start), bound(t, k))
		}
		time.Sleep(100 * time.Millisecond)
	}
	if took := time.Since(start); took < 1500*time.Millisecond || took > 3500*time.Millisecond {
		t.Errorf("the addresses left after %s, want about 2 s", took)
	}
	if diff := cmp.Diff(kept, bound(t, k), compareAddrs); diff != "" {
		t.Errorf("bound (-want +got):\n%s", diff)
	}
}

func TestKernelNamesWhatIsInTheWay(t *testing.T) {
	k := real(t)
	if err := bindOne(k, on("eth9", "10.0.0.100"), time.Second); err == nil || !strings.Contains(err.Error(), "bind 10.0.0.100 on eth9: the node has no such interface") {
		t.Errorf("an interface that is missing: error %v", err)
	}
	check(t, netnstest.Sysctl("net/ipv6/conf/eth0/disable_ipv6", "1"))
	if err := bindOne(k, on("eth0", "fd00::100"), time.Second); err == nil || !strings.Contains(err.Error(), "sysctl net.ipv6.conf.eth0.disable_ipv6=0") {
		t.Errorf("IPv6 that is disabled: error %v", err)
	}
	err := k.Refresh([]model.Binding{on("eth9", "10.0.0.1"), on("eth9", "10.0.0.2"), on("eth0", "10.0.0.100")}, time.Second)
	if err == nil || strings.Count(err.Error(), "\n") != 0 {
		t.Errorf("a refresh past an interface that is missing: error %v, want one line", err)
	}
	if have := bound(t, k); len(have) != 1 {
		t.Errorf("a refresh past an interface that is missing: bound %v", have)
	}
}

func TestKernelRefreshesBesideOtherCalls(t *testing.T) {
	k := real(t)
	var vips []model.Binding
	for i := range 50 {
		vips = append(vips, on("eth0", fmt.Sprintf("10.0.1.%d", i)))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if err := k.Refresh(vips, 5*time.Second); err != nil {
					t.Error(err)
				}
				if _, err := k.Bound(); err != nil {
					t.Error(err)
				}
				if _, err := k.Interfaces(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if have := bound(t, k); len(have) != len(vips) {
		t.Errorf("%d bound, want %d", len(have), len(vips))
	}
}

func TestKernelWatchTellsOfChangesButNotOfRefreshes(t *testing.T) {
	netnstest.Require(t)
	host := netnstest.New(t)
	host.Dummy("eth0", "10.0.0.1/24")
	var calls atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	var k *Kernel
	host.Do(func() (err error) { k, err = New(); return err })
	defer k.Close()
	ended := make(chan struct{})
	host.Go(func() {
		defer close(ended)
		k.Watch(ctx, func() { calls.Add(1) })
	})
	defer func() { cancel(); <-ended }()

	netnstest.Eventually(t, "the first call", 10*time.Second, func() bool { return calls.Load() > 0 })
	vip := on("eth0", "10.0.0.100")
	for what, f := range map[string]func() error{
		"binding":    func() error { return bindOne(k, vip, 30*time.Second) },
		"refreshing": func() error { return k.Refresh([]model.Binding{vip}, 30*time.Second) },
	} {
		time.Sleep(5 * settle) // for the calls that tell of what is past
		before := calls.Load()
		host.Do(f)
		time.Sleep(5 * settle)
		if n := calls.Load() - before; n != 0 {
			t.Errorf("%s a VIP made %d calls", what, n)
		}
	}
	for _, change := range []struct {
		what string
		make func() error
	}{
		{"the end of a VIP", func() error { return unbind(k, vip) }},
		{"a link going down", func() error { return netnstest.Link("eth0", false) }},
		{"a new network", func() error { return netnstest.Address("eth0", "10.1.0.1/24") }},
	} {
		time.Sleep(5 * settle)
		before := calls.Load()
		host.Do(change.make)
		netnstest.Eventually(t, "a call for "+change.what, 10*time.Second, func() bool { return calls.Load() > before })
	}
}

func BenchmarkKernelRefresh(b *testing.B) {
	for _, n := range []int{1000} {
		b.Run(fmt.Sprintf("bindings=%d", n), func(b *testing.B) {
			k := real(b)
			var vips []model.Binding
			for i := range n {
				vips = append(vips, model.Binding{Interface: "eth0", Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
			}
			b.ReportAllocs()
			for b.Loop() {
				check(b, k.Refresh(vips, time.Minute))
			}
		})
	}
}

// TestKernelAddressThatDetectionKeepsFromAnsweringIsReplaced: somebody gave the node the VIP by hand, and another host has it.
func TestKernelAddressThatDetectionKeepsFromAnsweringIsReplaced(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	other, host := lan.Host("fd00::10/64"), lan.Host("fd00::1/64")
	other.Address("eth0", "fd00::100/128")
	var k *Kernel
	host.Do(func() (err error) {
		k, err = New()
		return err
	})
	t.Cleanup(k.Close)
	flags := func() (flags int) {
		host.Do(func() (err error) {
			flags, _, _, _, err = netnstest.Lifetimes("fd00::100/128")
			return err
		})
		return flags
	}
	host.Do(func() error { return netnstest.Detect("eth0", "fd00::100/128") })
	vip, nowhere := on("eth0", "fd00::100"), on("", "fd00::100")
	if diff := cmp.Diff([]model.Binding{nowhere}, bound(t, k), compareAddrs); diff != "" {
		t.Errorf("while the address is tentative, bound (-want +got):\n%s", diff)
	}
	netnstest.Eventually(t, "the failure of the detection", 10*time.Second, func() bool { return flags()&unix.IFA_F_DADFAILED != 0 })
	check(t, bindOne(k, vip, time.Minute)) // a refresh does not mend it
	have := bound(t, k)
	if diff := cmp.Diff([]model.Binding{nowhere}, have, compareAddrs); diff != "" {
		t.Errorf("after it failed, bound (-want +got):\n%s", diff)
	}
	bind, doubtful := Diff([]model.Binding{vip}, have, func(netip.Addr) bool { return false })
	check(t, unbind(k, doubtful...))
	for _, b := range bind {
		check(t, bindOne(k, b, time.Minute))
	}
	if diff := cmp.Diff([]model.Binding{vip}, bound(t, k), compareAddrs); diff != "" {
		t.Errorf("in the end, bound (-want +got):\n%s", diff)
	}
	if got := flags(); got&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 || got&unix.IFA_F_NODAD == 0 {
		t.Errorf("in the end the address has flags %#x", got)
	}
}

func TestKernelBoundIPv6AddressIsUsableAtOnceAndJoinsItsGroup(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	host := lan.Host("fd00::1/64")
	var k *Kernel
	host.Do(func() (err error) {
		k, err = New()
		return err
	})
	t.Cleanup(k.Close)
	groups := func() (text string) {
		host.Do(func() error {
			data, err := os.ReadFile("/proc/thread-self/net/igmp6")
			text = string(data)
			return err
		})
		return text
	}
	const group = "ff0200000000000000000001ff123456" // RFC 4291, section 2.7.1
	if strings.Contains(groups(), group) {
		t.Fatal("the host is in the group without the address")
	}
	vip := on("eth0", "fd00::12:3456")
	check(t, bindOne(k, vip, time.Minute))
	host.Do(func() error {
		flags, _, _, found, err := netnstest.Lifetimes("fd00::12:3456/128")
		if !found || flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 || flags&unix.IFA_F_NODAD == 0 {
			t.Errorf("the address is there: %v, with flags %#x", found, flags)
		}
		return err
	})
	// The kernel joins from a work queue of its own (net/ipv6/addrconf.c, addrconf_dad_work), some moments after its answer.
	netnstest.Eventually(t, "the host joins the solicited-node group", 10*time.Second, func() bool { return strings.Contains(groups(), group) })
	check(t, unbind(k, vip))
	if strings.Contains(groups(), group) {
		t.Error("the host stays in the group without the address")
	}
}

func BenchmarkKernelUnbind(b *testing.B) {
	for _, n := range []int{500} {
		b.Run(fmt.Sprintf("bindings=%d", n), func(b *testing.B) {
			k := real(b)
			var vips []model.Binding
			for i := range n {
				vips = append(vips, model.Binding{Interface: "eth0", Addr: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})})
			}
			for b.Loop() {
				b.StopTimer()
				check(b, k.Refresh(vips, time.Minute))
				b.StartTimer()
				check(b, unbind(k, vips...))
			}
		})
	}
}
