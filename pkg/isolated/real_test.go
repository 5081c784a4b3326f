package isolated

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/model"
)

var vip = model.Binding{Addr: netip.MustParseAddr("10.0.0.100"), Interface: "eth0"}

func bindOne(k *Kernel, b model.Binding, lifetime time.Duration) error {
	return k.Bind([]model.Binding{b}, lifetime)[b.Addr]
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// joined returns a fresh host with eth0 that is joined with a namespace.
func joined(t *testing.T) (*Kernel, string) {
	t.Helper()
	netnstest.Enter(t)
	check(t, netnstest.Dummy("eth0", "10.0.0.1/24", "fd00::1/64"))
	path := filepath.Join(t.TempDir(), "run", "netns")
	return rejoined(t, path), path
}

func rejoined(t *testing.T, path string) *Kernel {
	t.Helper()
	space, err := Open(path)
	check(t, err)
	t.Cleanup(space.Close)
	k, err := New(space, func(string) error { return nil })
	check(t, err)
	t.Cleanup(k.Close)
	return k
}

func bound(t *testing.T, k *Kernel) []model.Binding {
	t.Helper()
	have, err := k.Bound()
	check(t, err)
	return have
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	check(t, unix.Stat(path, &stat))
	return stat.Ino
}

func TestKernelTheNamespaceOutlivesWhoMadeIt(t *testing.T) {
	k, path := joined(t)
	defer func() { _, err := Remove(path, nil); check(t, err) }()
	check(t, bindOne(k, vip, time.Minute))
	made := inode(t, path)
	if again := rejoined(t, path); inode(t, path) != made || !slices.Equal(bound(t, again), []model.Binding{vip}) {
		t.Errorf("another one finds namespace %d with %v, want %d with %v", inode(t, path), bound(t, again), made, vip)
	}
	var own string
	check(t, k.space.Do(func() (err error) { own, err = os.Readlink("/proc/thread-self/ns/net"); return err }))
	if process, err := os.Readlink("/proc/self/ns/net"); err != nil || own == process {
		t.Errorf("the namespace %s is the process's own, %s (error %v)", own, process, err)
	}
}

func TestKernelALinkThatWasRemovedIsMadeAgain(t *testing.T) {
	k, path := joined(t)
	defer func() { _, err := Remove(path, nil); check(t, err) }()
	for name, harm := range map[string]func() error{
		"the host's end removed": func() error {
			link, err := netlink.LinkByName(HostLink)
			if err != nil {
				return err
			}
			return netlink.LinkDel(link)
		},
		"the host's end down": func() error { return netnstest.Link(HostLink, false) },
	} {
		check(t, bindOne(k, vip, time.Minute))
		if have := bound(t, k); !slices.Equal(have, []model.Binding{vip}) {
			t.Fatalf("before: bound %v", have)
		}
		check(t, harm())
		if have := bound(t, k); !slices.Equal(have, []model.Binding{{Addr: vip.Addr}}) {
			t.Errorf("%s: bound %v, want a part", name, have)
		}
		check(t, k.Refresh([]model.Binding{vip}, time.Minute))
		if have := bound(t, k); !slices.Equal(have, []model.Binding{vip}) {
			t.Errorf("%s: refreshed, and bound %v", name, have)
		}
	}
}

// A neighbour that had a VIP before must not get what is sent to it after it has left here.
func TestKernelForgetsWhoHadAVIPBefore(t *testing.T) {
	k, path := joined(t)
	defer func() { _, err := Remove(path, nil); check(t, err) }()
	lan, err := netlink.LinkByName("eth0")
	check(t, err)
	check(t, k.fence(time.Minute))
	for _, addr := range []string{"10.0.0.101", "fd00::101"} {
		b := model.Binding{Addr: netip.MustParseAddr(addr), Interface: "eth0"}
		check(t, netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: lan.Attrs().Index, IP: b.Addr.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}, State: netlink.NUD_STALE,
		}))
		check(t, k.bind(b))
		left, err := netlink.NeighList(lan.Attrs().Index, netlink.FAMILY_ALL)
		check(t, err)
		if slices.ContainsFunc(left, func(n netlink.Neigh) bool { return n.IP.Equal(b.Addr.AsSlice()) }) {
			t.Errorf("%s is bound, and its neighbours are %v", addr, left)
		}
	}
}

func TestKernelOthersDoNotLiveOnByARefresh(t *testing.T) {
	k, path := joined(t)
	defer func() { _, err := Remove(path, nil); check(t, err) }()
	other := model.Binding{Addr: netip.MustParseAddr("10.0.0.101"), Interface: "eth0"}
	check(t, bindOne(k, vip, time.Minute))
	check(t, bindOne(k, other, time.Minute))
	next := rejoined(t, path)
	check(t, next.Refresh([]model.Binding{vip}, time.Minute))
	if have := bound(t, next); !slices.Equal(have, []model.Binding{vip}) {
		t.Errorf("bound %v, want what was refreshed", have)
	}
}

// TestKernelAnIPv6VIPWhoseFenceLapsedIsNotBound: nobody is answered for it, whatever the kernel has. Who begins sees the same.
func TestKernelAnIPv6VIPWhoseFenceLapsedIsNotBound(t *testing.T) {
	k, path := joined(t)
	defer func() { _, err := Remove(path, nil); check(t, err) }()
	vip6 := model.Binding{Addr: netip.MustParseAddr("fd00::100"), Interface: "eth0"}
	check(t, k.bind(vip6))
	for _, test := range []struct {
		raise bool
		want  model.Binding
	}{{false, model.Binding{Addr: vip6.Addr}}, {true, vip6}} {
		if test.raise {
			check(t, k.fence(time.Minute))
		}
		for _, process := range []*Kernel{k, rejoined(t, path)} {
			if have := bound(t, process); !slices.Equal(have, []model.Binding{test.want}) {
				t.Errorf("with a fence %v: bound %v, want %v", test.raise, have, test.want)
			}
		}
	}
}

func TestKernelRemoveLeavesWhatIsNotOurs(t *testing.T) {
	k, path := joined(t)
	eth0, err := netlink.LinkByName("eth0")
	check(t, err)
	foreign := &netlink.Neigh{LinkIndex: eth0.Attrs().Index, IP: netip.MustParseAddr("10.0.0.200").AsSlice(), Flags: netlink.NTF_PROXY}
	check(t, netlink.NeighAdd(foreign))
	check(t, netlink.RuleAdd(func() *netlink.Rule { r := netlink.NewRule(); r.Mark, r.Table = 1, 100; return r }()))
	check(t, bindOne(k, vip, time.Minute))
	if present, err := Present(path); !present || err != nil {
		t.Errorf("present %v, error %v", present, err)
	}
	removed, err := Remove(path, []netip.Addr{vip.Addr})
	check(t, err)
	want := []string{"proxy neighbour entry of 10.0.0.100", "link fl-h with its routes", "network namespace " + path}
	if !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q", removed, want)
	}
	if present, err := Present(path); present || err != nil {
		t.Errorf("present %v, error %v", present, err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the namespace's file: %v", err)
	}
	proxies, err := netlink.NeighProxyList(0, netlink.FAMILY_V4)
	check(t, err)
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	check(t, err)
	if len(proxies) != 1 || !proxies[0].IP.Equal(foreign.IP) || len(rules) != 4 { // three are the kernel's
		t.Errorf("left: proxies %v, rules %v", proxies, rules)
	}
	if removed, err := Remove(path, []netip.Addr{vip.Addr}); len(removed) != 0 || err != nil {
		t.Errorf("a second time: removed %q, error %v", removed, err)
	}
}
