package scan

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestParseRanges(t *testing.T) {
	got, err := ParseRanges("22,80-81,65535")
	if want := []Range{{22, 22}, {80, 81}, {65535, 65535}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
	for _, text := range []string{"", "0", "65536", "2-1", "22,", "ssh", "1-2-3"} {
		if got, err := ParseRanges(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestAScanTellsOpenPortsFromOthers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	open, mute := uint16(listener.Addr().(*net.TCPAddr).Port), uint16(silent.LocalAddr().(*net.UDPAddr).Port)
	loopback := netip.MustParseAddr("127.0.0.1")
	options := Options{Protocol: "tcp", Ports: []Range{{1, 1}, {open, open}}, Timeout: 5 * time.Second, AtOnce: 2}
	got, err := Run(t.Context(), loopback, options)
	if err != nil || !slices.Equal(got.Open, []uint16{open}) || got.Refused != 1 || got.Silent+got.Failed != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	options.Protocol, options.Ports, options.Timeout = "udp", []Range{{1, 1}, {mute, mute}}, 100*time.Millisecond
	got, err = Run(t.Context(), loopback, options)
	if err != nil || len(got.Open) != 0 || got.Refused != 1 || got.Silent != 1 || got.Failed != 0 {
		t.Errorf("of UDP: got %+v, %v", got, err)
	}
	if _, err := Run(t.Context(), loopback, Options{Protocol: "icmp", Timeout: 1, AtOnce: 1}); err == nil {
		t.Error("protocol icmp is scanned")
	}
}
