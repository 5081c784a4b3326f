package host_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/nft"
)

// TestKernelAVIPThatNobodyHasIsNotSentToAndFro: two nodes of which each takes the other for the holder, as neighbour tables may say
// for a while after a failure. A packet would go from one to the other until its time to live is over, and the client would be told
// that there is no route, where silence has it try again.
func TestKernelAVIPThatNobodyHasIsNotSentToAndFro(t *testing.T) {
	netnstest.Require(t)
	lan := netnstest.NewLAN(t)
	client := lan.Host("10.0.0.10/24", "fd00::10/64")
	nodes := []*netnstest.Space{lan.Host("10.0.0.1/24", "fd00::1/64"), lan.Host("10.0.0.2/24", "fd00::2/64")}
	var state nft.State
	for _, vip := range vips {
		state.VIPs = append(state.VIPs, netip.MustParseAddr(vip))
	}
	macs := make([]net.HardwareAddr, len(nodes))
	for i, node := range nodes {
		node.Do(func() (err error) {
			if macs[i], err = netnstest.MAC("eth0", nil); err != nil {
				return err
			}
			for _, sysctl := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
				if err := netnstest.Sysctl(sysctl, "1"); err != nil {
					return err
				}
			}
			table, err := nft.New()
			if err != nil {
				return err
			}
			_, err = table.Sync(t.Context(), state)
			return err
		})
	}
	for _, vip := range vips {
		client.Learn(vip, macs[0])
		nodes[0].Learn(vip, macs[1])
		nodes[1].Learn(vip, macs[0])
		_, _, err := client.AskBriefly("tcp", "", vip, 80)
		if failure := net.Error(nil); !errors.As(err, &failure) || !failure.Timeout() {
			t.Errorf("a client of %s was told %v, want nothing", vip, err)
		}
	}
}
