package host_test

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
)

// TestKernelAConnectionThatBeginsWithoutTheTableComesAboutWithIt: conntrack, which others use too, remembers that the first packet
// was not translated, and the client would ask for ever.
func TestKernelAConnectionThatBeginsWithoutTheTableComesAboutWithIt(t *testing.T) {
	n := build(t)
	run := func(command ...string) {
		t.Helper()
		n.director.Do(func() error { return exec.Command("nft", command...).Run() })
	}
	run("add table inet other; add chain inet other pre { type filter hook prerouting priority 0; }; add rule inet other pre ct state invalid drop")
	for i, vip := range vips {
		run("delete", "table", "inet", "fairlead")
		ended := make(chan error, 1)
		n.client.Go(func() {
			name, seen, err := n.client.Ask("tcp", clients[i], vip, 80)
			if err == nil && seen != directors[i] {
				err = fmt.Errorf("%s saw %s, want the director, %s", name, seen, directors[i])
			}
			ended <- err
		})
		netnstest.Eventually(t, "the first packet to "+vip, patience, func() bool { return len(n.flows(vip)) == 1 })
		if len(ended) > 0 {
			t.Fatalf("%s: without the table it came about, or failed at once: %v", vip, <-ended)
		}
		n.director.Do(func() error {
			_, err := n.table.Sync(t.Context(), n.state)
			return err
		})
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", vip, err)
		}
	}
}
