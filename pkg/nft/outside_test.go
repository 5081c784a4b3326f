package nft

import (
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
)

var outsideConfig = OutsideConfig{
	Link: "fl-x", Inside4: netip.MustParseAddr("169.254.1.2"), Inside6: netip.MustParseAddr("fd01::2"),
	Beat: netip.MustParseAddr("::1"), BeatMax: 3, Mark: 0x2000,
}

func TestKernelOutsideTableIsTheRecord(t *testing.T) {
	netnstest.Enter(t)
	o, err := NewOutside(outsideConfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tables := nft(t, "list tables"); tables != "" {
		t.Errorf("looking whether it works made %q", tables)
	}
	sync := func(want ...netip.Addr) bool {
		t.Helper()
		changed, err := o.Sync(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		owned, err := o.Owned(t.Context())
		if err != nil || !slices.Equal(owned, want) {
			t.Errorf("owned %v, want %v (error %v)", owned, want, err)
		}
		return changed
	}
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::ff:2")
	if !sync() || sync() || !sync(a, b) || sync(a, b) || !sync(b, c) || sync(b, c) {
		t.Error("a table that is as wanted was written, or one that is not was not")
	}
	if datapath, outside, err := Tables(t.Context()); datapath || !outside || err != nil {
		t.Errorf("tables: datapath %v, outside %v, error %v", datapath, outside, err)
	}
	asked := nft(t, "list", "set", "inet", outsideName, asked)
	if !strings.Contains(asked, "0xfd000000000000000000000000000001") || !strings.Contains(asked, "0xfd0000000000000000000000000ff0002") && !strings.Contains(asked, "0xfd000000000000000000000000ff0002") {
		t.Errorf("what is asked for: %s", asked)
	}
	nft(t, "flush", "chain", "inet", outsideName, "input")
	if !sync(b, c) || sync(b, c) {
		t.Error("a rule that somebody removed is still gone")
	}
	for range 2 {
		if err := o.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if tables := nft(t, "list tables"); tables != "" {
		t.Errorf("deleted, and there is %q", tables)
	}
}

// TestKernelADatagramKeepsAnswering: the sender is told by EPERM, and the port is how long it counts.
func TestKernelADatagramKeepsAnswering(t *testing.T) {
	netnstest.Enter(t)
	o, err := NewOutside(outsideConfig)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Sync(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	send := func(port string) error {
		conn, err := net.Dial("udp", "[::1]:"+port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = conn.Write([]byte{0})
		return err
	}
	if err := send("9"); err != nil {
		t.Errorf("a datagram to another port: %v", err)
	}
	if set := nft(t, "list", "set", "inet", outsideName, live); strings.Contains(set, "expires") {
		t.Errorf("nothing was sent, and it is live: %s", set)
	}
	for _, seconds := range []string{"1", "3"} {
		if err := send(seconds); err == nil {
			t.Error("no rule took the datagram")
		}
	}
	if set := nft(t, "list", "set", "inet", outsideName, live); !strings.Contains(set, "expires 2s") && !strings.Contains(set, "expires 3s") {
		t.Errorf("3 s were asked for, and it is live for: %s", set)
	}
}

func TestKernelDroppersAreFound(t *testing.T) {
	netnstest.Enter(t)
	command := exec.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(`table ip filter {
		chain FORWARD { type filter hook forward priority 0; policy drop; iifname "fl-h" accept; }
		chain INPUT { type filter hook input priority 0; policy drop; }
	}`)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found, err := Droppers(t.Context())
	if err != nil || len(found) != 1 || found[0].String() != "table ip filter, chain FORWARD" || !found[0].Names("fl-h") || found[0].Names("fl-x") {
		t.Errorf("found %v, error %v", found, err)
	}
}
