package netif

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestChangesInARowAreToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		links, addresses := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate)
		calls := 0
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			tell(t.Context(), links, addresses, func() { calls++ })
		}()
		told := func(want int, what string) {
			t.Helper()
			time.Sleep(settle + time.Millisecond)
			synctest.Wait()
			if calls != want {
				t.Errorf("%s: %d calls, want %d", what, calls, want)
			}
			calls = 0
		}
		change := netlink.LinkUpdate{}
		change.Header.Type = unix.RTM_NEWLINK
		links <- change
		time.Sleep(settle / 2)
		links <- change
		addresses <- netlink.AddrUpdate{LinkAddress: net.IPNet{IP: net.IPv4(10, 0, 0, 1), Mask: net.CIDRMask(24, 32)}, NewAddr: true}
		told(1, "three changes within the time to settle")
		vip := net.IPNet{IP: net.IPv4(10, 0, 0, 100), Mask: net.CIDRMask(32, 32)}
		addresses <- netlink.AddrUpdate{LinkAddress: vip, NewAddr: true}
		told(0, "a VIP that is refreshed")
		addresses <- netlink.AddrUpdate{LinkAddress: vip}
		told(1, "a VIP that is gone")
		close(links)
		<-ended
	})
}
