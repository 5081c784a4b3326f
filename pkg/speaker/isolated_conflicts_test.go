package speaker_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/host/netnstest"
)

// TestKernelIsolatedVIPsAreFoundByProbesAndConflictsAreSeen: the host has no such address, it answers by proxy.
func TestKernelIsolatedVIPsAreFoundByProbesAndConflictsAreSeen(t *testing.T) {
	c := build(t)
	defer c.live()()
	var mac net.HardwareAddr
	c.other.Do(func() (err error) { mac, err = netnstest.MAC("eth0", nil); return err })
	announcer := announce.New(announce.Config{Allowed: func(netip.Addr) bool { return true }})
	c.other.Go(func() { announcer.Run(t.Context()) })
	netnstest.Eventually(t, "that a probe finds both VIPs", 10*time.Second, func() bool {
		found, err := announcer.Probe(t.Context(), c.state.Bindings)
		if err != nil {
			t.Fatal(err)
		}
		return len(found) == len(vips)
	})
	announcer.Set(c.state.Bindings)
	missing := map[netip.Addr]bool{netip.MustParseAddr(vips[0]): true, netip.MustParseAddr(vips[1]): true}
	for deadline := time.After(10 * time.Second); len(missing) > 0; {
		select {
		case sighting := <-c.seen:
			if sighting.MAC == mac.String() && sighting.Interface == "eth0" && !sighting.Asking {
				delete(missing, sighting.Addr)
			}
		case <-deadline:
			t.Fatalf("the holder did not see that another host announces %v", missing)
		}
	}
}
