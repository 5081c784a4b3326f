package announce

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/model"
)

var vip4, vip6 = on("eth0", "10.0.0.100"), on("eth0", "fd00::100")

var oldMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}

// pair returns a neighbour that knows both VIPs under an old MAC address, and a host that announces.
func pair(t testing.TB, cfg Config) (neighbour, host *netnstest.Space, a *Announcer) {
	t.Helper()
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	neighbour, host = lan.Host("10.0.0.10/24", "fd00::10/64"), lan.Host("10.0.0.1/24", "fd00::1/64")
	neighbour.Learn("10.0.0.100", oldMAC)
	neighbour.Learn("fd00::100", oldMAC)
	a = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	host.Go(func() { a.Run(ctx) })
	t.Cleanup(cancel)
	return neighbour, host, a
}

func knows(neighbour *netnstest.Space, mac net.HardwareAddr) func() bool {
	return func() bool {
		return bytes.Equal(neighbour.Neighbour("10.0.0.100"), mac) && bytes.Equal(neighbour.Neighbour("fd00::100"), mac)
	}
}

func macOf(host *netnstest.Space) (mac net.HardwareAddr) {
	host.Do(func() (err error) {
		mac, err = netnstest.MAC("eth0", nil)
		return err
	})
	return mac
}

func always(netip.Addr) bool { return true }

func TestKernelNeighbourLearnsWhoHasTheVIP(t *testing.T) {
	neighbour, host, a := pair(t, Config{Allowed: always, OnError: func(b model.Binding, err error) { t.Errorf("%v: %v", b, err) }})
	a.Set([]model.Binding{vip4, vip6})
	netnstest.Eventually(t, "the neighbour's change of mind", time.Second, knows(neighbour, macOf(host)))
}

func TestKernelNothingIsSentWithoutTheRight(t *testing.T) {
	var allowed atomic.Bool
	neighbour, host, a := pair(t, Config{Allowed: func(netip.Addr) bool { return allowed.Load() }})
	a.Set([]model.Binding{vip4, vip6})
	time.Sleep(300 * time.Millisecond)
	if !knows(neighbour, oldMAC)() {
		t.Error("the neighbour heard of a VIP that must not be announced")
	}
	allowed.Store(true)
	netnstest.Eventually(t, "the neighbour's change of mind", 2*time.Second, knows(neighbour, macOf(host)))
}

func TestKernelInterfaceThatComesBackWithAnotherMACIsAnnouncedAnew(t *testing.T) {
	var mu sync.Mutex
	reports := map[model.Binding][]error{}
	neighbour, host, a := pair(t, Config{Allowed: always, OnError: func(b model.Binding, err error) {
		mu.Lock()
		defer mu.Unlock()
		reports[b] = append(reports[b], err)
	}})
	a.Set([]model.Binding{vip4, vip6})
	netnstest.Eventually(t, "the first announcement", 5*time.Second, knows(neighbour, macOf(host)))
	host.Do(func() error { return netnstest.Link("eth0", false) })
	netnstest.Eventually(t, "the report that the link is down", 3*time.Second, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(reports[vip4]) == 1 && len(reports[vip6]) == 1
	})
	other := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	host.Do(func() error {
		if _, err := netnstest.MAC("eth0", other); err != nil {
			return err
		}
		return netnstest.Link("eth0", true)
	})
	netnstest.Eventually(t, "the neighbour's change of mind", 5*time.Second, knows(neighbour, other))
	// A neighbour knows as soon as it is told; the report comes after that.
	netnstest.Eventually(t, "the reports that the link is up", 5*time.Second, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(reports[vip4]) > 1 && len(reports[vip6]) > 1
	})
	mu.Lock()
	defer mu.Unlock()
	for b, errs := range reports {
		if len(errs) != 2 || errs[0] == nil || errs[1] != nil {
			t.Errorf("%v: reported %v, want an error and its end", b, errs)
		}
	}
}

func TestKernelAdvertisementSaysWhetherTheHostForwards(t *testing.T) {
	netnstest.Enter(t)
	if err := netnstest.Dummy("eth0"); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]bool{"0": false, "1": true} {
		if err := netnstest.Sysctl("net/ipv6/conf/eth0/forwarding", value); err != nil {
			t.Fatal(err)
		}
		if got := forwards("eth0"); got != want {
			t.Errorf("with forwarding %s, forwards says %v", value, got)
		}
	}
}
