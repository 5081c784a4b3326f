package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/model"
)

var compareAddrs = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}), cmpopts.EquateEmpty()}

// real returns the IPVS of a fresh namespace.
func real(t testing.TB) *Kernel {
	t.Helper()
	netnstest.Enter(t)
	k, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func apply(t testing.TB, k *Kernel, want ...model.Server) int {
	t.Helper()
	have, err := k.Servers()
	if err != nil {
		t.Fatal(err)
	}
	applied, err := k.Apply(Diff(want, have, everything))
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// TestNewFailsWithoutIPVS runs only where there is none: the library calls everything a success there.
func TestNewFailsWithoutIPVS(t *testing.T) {
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		t.Skip("this kernel has IPVS")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to look for IPVS in a namespace of its own")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs a network namespace of its own: %v", err)
	}
	h, err := ipvs.New("")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := os.Stat("/proc/net/ip_vs"); err == nil {
		t.Skip("this kernel has loaded IPVS meanwhile")
	}
	service, _ := toService(model.Server{Frontend: tcp("10.0.0.1:80"), Scheduler: rr})
	if err := h.NewService(service); err != nil {
		t.Errorf("the library has learnt to fail without IPVS (%v): the probe may be simpler", err)
	}
	if _, err := New(Config{}); !errors.Is(err, ErrNoIPVS) {
		t.Errorf("New without IPVS: error %v, want %v", err, ErrNoIPVS)
	}
}

func TestKernelProbeLeavesNothing(t *testing.T) {
	k := real(t)
	services, err := k.open()
	if err != nil {
		t.Fatal(err)
	}
	defer services.Close()
	if left, err := services.GetServices(); err != nil || len(left) != 0 {
		t.Errorf("after the probe there is %v, error %v", left, err)
	}
}

func TestKernelHoldsWhatWasApplied(t *testing.T) {
	k := real(t)
	v6 := model.Frontend{Addr: netip.MustParseAddr("fd00::100"), Port: 80, Proto: model.TCP}
	udp := model.Frontend{Addr: netip.MustParseAddr("10.0.0.100"), Port: 53, Proto: model.UDP}
	sctp := model.Frontend{Addr: netip.MustParseAddr("fd00::100"), Port: 80, Proto: model.SCTP}
	want := []model.Server{
		server(udp, model.Scheduler{Name: "wlc"}, backend("10.0.1.1:53", 255), backend("10.0.1.1:54", 256), backend("10.0.1.2:53", 65535)),
		server(tcp("10.0.0.100:80"), model.MaglevByPort, backend("10.0.1.1:8080", 0), backend("10.0.1.2:8080", 1)),
		{
			Frontend: tcp("10.0.0.100:443"), Scheduler: model.Maglev, Persistence: 10800, Backends: []model.Backend{
				{Addr: netip.MustParseAddrPort("10.0.1.1:443"), Weight: 3, Forwarding: model.Direct},
				{Addr: netip.MustParseAddrPort("10.0.1.2:443"), Weight: 1, Forwarding: model.Tunnel, MaxConnections: 1000},
			},
		},
		server(sctp, model.Scheduler{Name: "sh", Flags: model.FlagPort}),
		server(v6, rr, backend("[fd00::1]:8080", 1), backend("[fd00::2]:8080", 300)),
		server(tcp("[fd00::100]:443"), rr, model.Backend{Addr: netip.MustParseAddrPort("10.0.1.1:443"), Weight: 1, Forwarding: model.Tunnel},
			model.Backend{Addr: netip.MustParseAddrPort("[fd00::1]:443"), Weight: 2, Forwarding: model.Tunnel}),
	}
	apply(t, k, want...)
	have, err := k.Servers()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have, compareAddrs); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
	for _, s := range want {
		one, found, err := k.Server(s.Frontend)
		if err != nil || !found {
			t.Fatalf("Server(%v): found %v, error %v", s.Frontend, found, err)
		}
		if diff := cmp.Diff(s, one, compareAddrs); diff != "" {
			t.Errorf("server (-want +got):\n%s", diff)
		}
	}
	if applied := apply(t, k, want...); applied != 0 {
		t.Errorf("nothing changed, and %d writes were made", applied)
	}
	if _, found, err := k.Server(tcp("10.0.0.100:81")); found || err != nil {
		t.Errorf("a server that is not there: found %v, error %v", found, err)
	}
	apply(t, k)
	if have, _ := k.Servers(); len(have) != 0 {
		t.Errorf("left over: %v", have)
	}
}

func TestKernelGivesIPv6ServicesTheWholeNetmask(t *testing.T) {
	k := real(t)
	apply(t, k, server(tcp("[fd00::100]:80"), rr), server(tcp("10.0.0.100:80"), rr))
	err := k.call(func(h handle) error {
		services, err := h.GetServices()
		for _, s := range services {
			if want := map[uint16]uint32{unix.AF_INET: netmask4, unix.AF_INET6: 128}[s.AddressFamily]; s.Netmask != want {
				t.Errorf("service %s has netmask %#x, want %#x", s.Address, s.Netmask, want)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestKernelEditsInPlace(t *testing.T) {
	k := real(t)
	f := tcp("10.0.0.100:80")
	a, b := backend("10.0.1.1:80", 1), backend("10.0.1.2:80", 1)
	apply(t, k, server(f, rr, a, b))
	drained := backend("10.0.1.1:80", 0)
	have, _, err := k.Server(f)
	if err != nil {
		t.Fatal(err)
	}
	changes := Diff([]model.Server{server(f, model.MaglevByPort, drained, b)}, []model.Server{have}, everything)
	for _, c := range changes {
		if c.Op != EditServer && c.Op != EditBackend {
			t.Errorf("%s: a change in place was wanted", c)
		}
	}
	if _, err := k.Apply(changes); err != nil {
		t.Fatal(err)
	}
	if have, _, _ = k.Server(f); !have.Equal(server(f, model.MaglevByPort, drained, b)) {
		t.Errorf("after it the server is %v", have)
	}
}

func TestKernelEditsForwardingAndPersistenceInPlace(t *testing.T) {
	k := real(t)
	f := tcp("[fd00::100]:80")
	wants := []model.Server{server(f, model.Maglev, backend("[fd00::1]:80", 1))}
	for _, forwarding := range []model.Forwarding{model.Tunnel, model.Direct, model.Masquerade} {
		next := wants[len(wants)-1]
		next.Persistence += 60
		next.Backends = []model.Backend{{
			Addr: next.Backends[0].Addr, Weight: 1, Forwarding: forwarding, MaxConnections: uint32(forwarding) * 10,
		}}
		wants = append(wants, next)
	}
	over4 := server(f, model.Maglev, model.Backend{Addr: netip.MustParseAddrPort("10.0.1.1:80"), Weight: 1, Forwarding: model.Tunnel})
	heavier := server(f, model.Maglev, model.Backend{Addr: netip.MustParseAddrPort("10.0.1.1:80"), Weight: 7, Forwarding: model.Tunnel})
	for _, want := range append(wants, over4, heavier, server(f, model.Maglev)) {
		apply(t, k, want)
		if have, _, err := k.Server(f); err != nil || !have.Equal(want) {
			t.Errorf("the server is %v, want %v; error %v", have, want, err)
		}
	}
}

func TestKernelChangesTheSchedulerInPlace(t *testing.T) {
	k := real(t)
	f := tcp("10.0.0.100:80")
	a, drained := backend("10.0.1.1:80", 1), backend("10.0.1.2:80", 0)
	for _, scheduler := range []model.Scheduler{model.MaglevByPort, rr, model.SourceHash, {Name: "lblcr"}, {Name: "wrr"}, model.MaglevByPort} {
		have, found, err := k.Server(f)
		if err != nil {
			t.Fatal(err)
		}
		want := server(f, scheduler, a, drained)
		if found {
			changes := Diff([]model.Server{want}, []model.Server{have}, everything)
			if len(changes) != 1 || changes[0].Op != EditServer {
				t.Errorf("from %s to %s: %v, want one edit", have.Scheduler.Name, scheduler.Name, lines(changes))
			}
		}
		apply(t, k, want)
		if have, _, _ = k.Server(f); !have.Equal(want) {
			t.Errorf("the server is %v, want %v", have, want)
		}
	}
	// A scheduler that the kernel lacks changes nothing, and the error says what helps.
	none := model.Scheduler{Name: "nonesuch"}
	_, err := k.Apply([]Change{{Op: EditServer, Frontend: f, Scheduler: none}})
	if have, _, _ := k.Server(f); have.Scheduler != model.MaglevByPort {
		t.Errorf("the scheduler is %v", have.Scheduler)
	}
	for _, part := range []string{"10.0.0.100:80/TCP", `no IPVS scheduler "nonesuch"`, "modprobe ip_vs_nonesuch"} {
		if !strings.Contains(fmt.Sprint(err), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
}

func TestKernelApplyIsIdempotent(t *testing.T) {
	k := real(t)
	f, b := tcp("10.0.0.100:80"), backend("10.0.1.1:80", 1)
	changes := []Change{
		{Op: DeleteServer, Frontend: f}, {Op: DeleteBackend, Frontend: f, Backend: b},
		{Op: AddServer, Frontend: f, Scheduler: rr}, {Op: AddServer, Frontend: f, Scheduler: model.MaglevByPort},
		{Op: DeleteBackend, Frontend: f, Backend: b},
		{Op: AddBackend, Frontend: f, Backend: b}, {Op: AddBackend, Frontend: f, Backend: backend("10.0.1.1:80", 2)},
	}
	if applied, err := k.Apply(changes); applied != len(changes) || err != nil {
		t.Errorf("%d of %d applied, error %v", applied, len(changes), err)
	}
	want := server(f, model.MaglevByPort, backend("10.0.1.1:80", 2))
	if have, _, _ := k.Server(f); !have.Equal(want) {
		t.Errorf("the server is %v, want %v", have, want)
	}
	_, err := k.Apply([]Change{
		{Op: EditBackend, Frontend: f, Backend: backend("10.0.1.9:80", 1)},
		{Op: EditServer, Frontend: tcp("10.0.0.9:80"), Scheduler: rr},
		{Op: AddServer, Frontend: tcp("10.0.0.9:80"), Scheduler: model.Scheduler{Name: "nonesuch"}},
	})
	if !errors.Is(err, unix.ENOENT) || !errors.Is(err, unix.ESRCH) {
		t.Errorf("error %v, want one that wraps ENOENT and ESRCH", err)
	}
	if !strings.Contains(fmt.Sprint(err), `no IPVS scheduler "nonesuch"`) {
		t.Errorf("error %v does not name the scheduler", err)
	}
}

func TestKernelLeavesForeignServersAlone(t *testing.T) {
	k := real(t)
	theirs := server(tcp("192.0.2.1:80"), rr, backend("192.0.2.9:80", 7))
	apply(t, k, theirs)
	mark := &ipvs.Service{AddressFamily: unix.AF_INET, Netmask: netmask4, FWMark: 42, SchedName: "rr"}
	if err := k.call(func(h handle) error { return h.NewService(mark) }); err != nil {
		t.Fatal(err)
	}
	ours := func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.100") }
	for _, want := range [][]model.Server{{server(tcp("10.0.0.100:80"), rr)}, nil} {
		have, err := k.Servers()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Apply(Diff(want, have, ours)); err != nil {
			t.Fatal(err)
		}
	}
	have, err := k.Servers()
	if diff := cmp.Diff([]model.Server{theirs}, have, compareAddrs); diff != "" || err != nil {
		t.Errorf("error %v, servers (-want +got):\n%s", err, diff)
	}
	if err := k.call(func(h handle) error { _, err := h.GetService(mark); return err }); err != nil {
		t.Errorf("the service of a firewall mark is gone: %v", err)
	}
}

// TestKernelIsNotHungByConcurrentCalls makes 800 calls from 8 goroutines: with one handle shared between them the library
// hung after 2 to 23.
func TestKernelIsNotHungByConcurrentCalls(t *testing.T) {
	k := real(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			f := tcp(fmt.Sprintf("10.0.0.%d:80", i+1))
			for range 50 {
				if _, err := k.Apply([]Change{{Op: AddServer, Frontend: f, Scheduler: rr}}); err != nil {
					t.Error(err)
					return
				}
				if _, found, err := k.Server(f); err != nil || !found {
					t.Errorf("found %v, error %v", found, err)
					return
				}
			}
		}()
	}
	wg.Wait()
}
