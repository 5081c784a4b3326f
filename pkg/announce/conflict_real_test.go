package announce

import (
	"bytes"
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/model"
)

// announcer runs an Announcer on a host.
func announcer(t *testing.T, host *netnstest.Space, cfg Config) *Announcer {
	t.Helper()
	cfg.Allowed = always
	a := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	host.Go(func() { a.Run(ctx) })
	t.Cleanup(cancel)
	return a
}

// capture records what a host hears.
type capture struct {
	mu     sync.Mutex
	frames [][]byte
	times  []time.Time
}

// listen captures what a filter lets pass.
func listen(t *testing.T, host *netnstest.Space, protocol int, filter []bpf.Instruction) *capture {
	t.Helper()
	var conn *packet.Conn
	host.Do(func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		program, err := bpf.Assemble(filter)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(ifi, packet.Raw, protocol, &packet.Config{Filter: program})
		return err
	})
	c := &capture{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			frame := make([]byte, ndpMost)
			n, _, err := conn.ReadFrom(frame)
			if err != nil {
				return
			}
			c.mu.Lock()
			c.frames, c.times = append(c.frames, frame[:n]), append(c.times, time.Now())
			c.mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return c
}

// announced returns when an address was announced: neither asked for nor answered for.
func (c *capture) announced(addr netip.Addr) (times []time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, frame := range c.frames {
		of, _ := subject(frame)
		if _, asking := user(frame); of == addr && !asking && frame[0]&1 == 1 {
			times = append(times, c.times[i])
		}
	}
	return times
}

// sightings collects what an Announcer tells.
type sightings struct {
	mu  sync.Mutex
	all []Sighting
}

func (s *sightings) add(one Sighting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, one)
}

func (s *sightings) has(addr, mac string, asking bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(one Sighting) bool {
		return one.Addr == netip.MustParseAddr(addr) && one.MAC == mac && one.Interface == "eth0" && one.Asking == asking
	})
}

func TestKernelProbeFindsTheHostThatHasAnAddress(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	other, host := lan.Host("10.0.0.10/24", "fd00::10/64"), lan.Host("10.0.0.1/24", "fd00::1/64")
	other.Address("eth0", "10.0.0.100/32", "fd00::100/128")
	a := announcer(t, host, Config{})
	free4, free6 := on("eth0", "10.0.0.101"), on("eth0", "fd00::101")
	found, err := a.Probe(t.Context(), []model.Binding{vip4, free4, vip6, free6})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []model.Binding{vip4, vip6} {
		if got := found[b.Addr]; got.MAC != macOf(other).String() || got.Interface != "eth0" || got.Asking {
			t.Errorf("found %+v at %s, want the host %s", got, b.Addr, macOf(other))
		}
	}
	if len(found) != 2 {
		t.Errorf("found %v, want two", slices.Collect(maps.Keys(found)))
	}
	if mac := other.Neighbour("10.0.0.101"); mac != nil {
		t.Errorf("asking made the other host know %s for an address that was only asked for", mac)
	}
}

func TestKernelTwoThatProbeOneAddressFindEachOther(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	first, second := lan.Host("10.0.0.1/24", "fd00::1/64"), lan.Host("10.0.0.2/24", "fd00::2/64")
	a, b := announcer(t, first, Config{}), announcer(t, second, Config{})
	asked := []model.Binding{vip4, vip6}
	// Each once by itself, so that both have their sockets.
	for _, one := range []*Announcer{a, b} {
		if found, err := one.Probe(t.Context(), asked); err != nil || len(found) != 0 {
			t.Fatalf("alone it found %v, error %v", found, err)
		}
	}
	wanted := func(found map[netip.Addr]Sighting, other *netnstest.Space) bool {
		return !slices.ContainsFunc(asked, func(vip model.Binding) bool {
			got := found[vip.Addr]
			return got.MAC != macOf(other).String() || !got.Asking
		})
	}
	// A probe is so short that one may be over before the other begins.
	netnstest.Eventually(t, "both find each other", 30*time.Second, func() bool {
		var both sync.WaitGroup
		found := make([]map[netip.Addr]Sighting, 2)
		for i, one := range []*Announcer{a, b} {
			both.Go(func() {
				var err error
				if found[i], err = one.Probe(t.Context(), asked); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		return wanted(found[0], second) && wanted(found[1], first)
	})
}

// TestKernelWhoAnnouncesAnswersProbes has no address bound, as on a host that answers by proxy, where the kernel does not
// answer ARP probes.
func TestKernelWhoAnnouncesAnswersProbes(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	holder, host := lan.Host("10.0.0.1/24"), lan.Host("10.0.0.2/24")
	seen := &sightings{}
	announcer(t, holder, Config{Seen: seen.add}).Set([]model.Binding{vip4})
	a := announcer(t, host, Config{})
	netnstest.Eventually(t, "an answer to an ARP probe", 5*time.Second, func() bool {
		found, err := a.Probe(t.Context(), []model.Binding{vip4})
		if err != nil {
			t.Fatal(err)
		}
		return found[vip4.Addr].MAC == macOf(holder).String() && !found[vip4.Addr].Asking
	})
	netnstest.Eventually(t, "the holder hears that the other asks", 30*time.Second, func() bool {
		if _, err := a.Probe(t.Context(), []model.Binding{vip4}); err != nil {
			t.Fatal(err)
		}
		return seen.has("10.0.0.100", macOf(host).String(), true)
	})
}

func TestKernelAnotherHostThatAnnouncesIsSeenAndAnsweredOnceInTenSeconds(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	other, host := lan.Host("10.0.0.10/24", "fd00::10/64"), lan.Host("10.0.0.1/24", "fd00::1/64")
	host.Address("eth0", "10.0.0.100/32", "fd00::100/128")
	arps, ndps := listen(t, other, unix.ETH_P_ARP, arpFilter), listen(t, other, unix.ETH_P_IPV6, ndpFilter)
	seen := &sightings{}
	var a *Announcer
	a = announcer(t, host, Config{Seen: func(s Sighting) {
		seen.add(s)
		a.Defend(model.Binding{Addr: s.Addr, Interface: s.Interface})
	}})
	a.Set([]model.Binding{vip4, vip6})
	// A burst of request and reply, and of advertisements.
	netnstest.Eventually(t, "the burst", 30*time.Second, func() bool {
		return len(arps.announced(vip4.Addr)) >= 2*burst && len(ndps.announced(vip6.Addr)) >= burst
	})
	before4, before6 := len(arps.announced(vip4.Addr)), len(ndps.announced(vip6.Addr))

	foreign := newPackets(newEars(func() {}))
	say := func() {
		other.Do(func() error {
			if _, err := foreign.check("eth0"); err != nil {
				return err
			}
			for _, b := range []model.Binding{vip4, vip6} {
				if _, err := foreign.send(b, always); err != nil {
					return err
				}
			}
			return nil
		})
	}
	t.Cleanup(foreign.close)
	say()
	mac := macOf(other).String()
	netnstest.Eventually(t, "the sightings", 5*time.Second, func() bool {
		return seen.has("10.0.0.100", mac, false) && seen.has("fd00::100", mac, false)
	})
	defences := func() (int, int) {
		return (len(arps.announced(vip4.Addr)) - before4) / 2, len(ndps.announced(vip6.Addr)) - before6
	}
	netnstest.Eventually(t, "the defence", 5*time.Second, func() bool { v4, v6 := defences(); return v4 == 1 && v6 == 1 })
	until := time.Now().Add(defendInterval - 2*time.Second)
	for time.Now().Before(until) {
		say()
		if v4, v6 := defences(); v4 != 1 || v6 != 1 {
			t.Fatalf("defended %d and %d times within 10 s, want once", v4, v6)
		}
		time.Sleep(500 * time.Millisecond)
	}
	netnstest.Eventually(t, "another defence after 10 s", 10*time.Second, func() bool {
		say()
		v4, v6 := defences()
		return v4 == 2 && v6 == 2
	})
}

func TestKernelDuplicateAddressDetectionOfAnotherHostIsSeenAndFails(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	other, host := lan.Host("fd00::10/64"), lan.Host("fd00::1/64")
	host.Address("eth0", "fd00::100/128")
	ndps := listen(t, other, unix.ETH_P_IPV6, ndpFilter)
	seen := &sightings{}
	announcer(t, host, Config{Seen: seen.add}).Set([]model.Binding{vip6})
	netnstest.Eventually(t, "the announcement", 5*time.Second, func() bool { return len(ndps.announced(vip6.Addr)) > 0 })
	other.Do(func() error { return netnstest.Detect("eth0", "fd00::100/128") })
	netnstest.Eventually(t, "the sighting", 10*time.Second, func() bool {
		return seen.has("fd00::100", macOf(other).String(), true)
	})
	netnstest.Eventually(t, "the failure of the other host's detection", 10*time.Second, func() bool {
		var flags int
		other.Do(func() (err error) {
			flags, _, _, _, err = netnstest.Lifetimes("fd00::100/128")
			return err
		})
		return flags&unix.IFA_F_DADFAILED != 0
	})
}

func TestKernelSilentUserOfAnAnnouncedAddressIsFound(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	other, host := lan.Host("10.0.0.10/24", "fd00::10/64"), lan.Host("10.0.0.1/24", "fd00::1/64")
	other.Do(func() error {
		// It says nothing of itself; Linux advertises a new IPv6 address only if it is told to (ndisc_notify).
		return netnstest.Address("eth0", "10.0.0.100/32", "fd00::100/128")
	})
	seen := &sightings{}
	announcer(t, host, Config{Seen: seen.add}).Set([]model.Binding{vip4, vip6})
	mac := macOf(other).String()
	netnstest.Eventually(t, "the sightings", 30*time.Second, func() bool {
		return seen.has("10.0.0.100", mac, false) && seen.has("fd00::100", mac, false)
	})
}

func TestKernelFirstAnnouncement(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	other, host := lan.Host("10.0.0.10/24", "fd00::10/64"), lan.Host("10.0.0.1/24", "fd00::1/64")
	arps, ndps := listen(t, other, unix.ETH_P_ARP, arpFilter), listen(t, other, unix.ETH_P_IPV6, ndpFilter)
	var took4, took6 []time.Duration
	for range 25 { // each with sockets that are yet to be opened, by an announcer that runs
		a := New(Config{Allowed: always})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		host.Go(func() { defer close(ended); a.Run(ctx) })
		if _, err := a.Probe(t.Context(), []model.Binding{on("none", "10.0.0.100")}); err == nil {
			t.Error("asked on an interface that is not there")
		}
		before4, before6 := len(arps.announced(vip4.Addr)), len(ndps.announced(vip6.Addr))
		start := time.Now()
		a.Set([]model.Binding{vip4, vip6})
		netnstest.Eventually(t, "the first announcement", 5*time.Second, func() bool {
			return len(arps.announced(vip4.Addr)) > before4 && len(ndps.announced(vip6.Addr)) > before6
		})
		cancel()
		<-ended
		took4 = append(took4, arps.announced(vip4.Addr)[before4].Sub(start))
		took6 = append(took6, ndps.announced(vip6.Addr)[before6].Sub(start))
	}
	for name, took := range map[string][]time.Duration{"gratuitous ARP": took4, "neighbour advertisement": took6} {
		slices.Sort(took)
		t.Logf("first %s after Set, on the neighbour, of %d runs: median %s, longest %s",
			name, len(took), took[len(took)/2], took[len(took)-1])
	}
}

// A host that gives an address away has it for a while yet, and answers all neighbours when it is asked for it after its last
// announcement.
func TestKernelNeighboursKnowWhoAnnouncesWhileAnotherHasTheAddress(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	before, host, neighbour := lan.Host("fd00::10/64"), lan.Host("fd00::1/64"), lan.Host("fd00::2/64")
	before.Address("eth0", "fd00::100/128")
	host.Address("eth0", "fd00::100/128")
	ndps := listen(t, neighbour, unix.ETH_P_IPV6, ndpFilter)
	seen := &sightings{}
	var a *Announcer
	a = announcer(t, host, Config{Seen: func(s Sighting) {
		seen.add(s)
		a.Repeat(model.Binding{Addr: s.Addr, Interface: s.Interface})
	}})
	knows := func() bool { return bytes.Equal(neighbour.Neighbour("fd00::100"), macOf(host)) }
	neighbour.Learn("fd00::100", oldMAC)
	a.Set([]model.Binding{vip6})
	netnstest.Eventually(t, "the answer of the other", 30*time.Second, func() bool { return seen.has("fd00::100", macOf(before).String(), false) })
	netnstest.Eventually(t, "the announcement after it", 5*time.Second, func() bool { return len(ndps.announced(vip6.Addr)) > burst+1 })
	netnstest.Eventually(t, "the neighbour knows who announces", 5*time.Second, knows)
}

// A neighbour that the last holder answered to the end does not ask for half a minute, which is longer than this test waits.
func TestKernelNeighboursKnowTheNextHolderOnceTheLastLetGo(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	before, host := lan.Host("10.0.0.10/24", "fd00::10/64"), lan.Host("10.0.0.1/24", "fd00::1/64")
	neighbour := lan.Host("10.0.0.2/24", "fd00::2/64")
	arps, ndps := listen(t, neighbour, unix.ETH_P_ARP, arpFilter), listen(t, neighbour, unix.ETH_P_IPV6, ndpFilter)
	last := announcer(t, before, Config{})
	var next *Announcer
	next = announcer(t, host, Config{Seen: func(s Sighting) {
		next.Repeat(model.Binding{Addr: s.Addr, Interface: s.Interface})
	}})
	host.Address("eth0", "10.0.0.100/32", "fd00::100/128")
	next.Set([]model.Binding{vip4, vip6})
	netnstest.Eventually(t, "the end of its announcements", 30*time.Second, func() bool {
		return len(arps.announced(vip4.Addr)) >= burst && len(ndps.announced(vip6.Addr)) >= burst
	})
	for _, vip := range []string{"10.0.0.100", "fd00::100"} {
		neighbour.Learn(vip, macOf(before))
	}
	last.Ask([]model.Binding{vip4, vip6})
	netnstest.Eventually(t, "the neighbour knows the next holder", 8*time.Second, func() bool {
		return bytes.Equal(neighbour.Neighbour("10.0.0.100"), macOf(host)) && bytes.Equal(neighbour.Neighbour("fd00::100"), macOf(host))
	})
}
