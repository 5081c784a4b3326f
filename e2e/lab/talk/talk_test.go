package talk

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab/serve"
)

// freePort is one that nothing listens on.
func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

func TestEachLineIsAnsweredOnOneConnection(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	port := freePort(t)
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, "here", []serve.Listen{{Protocol: "tcp", Port: port}, {Protocol: "udp", Port: port}}, func() { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	for _, protocol := range []string{"tcp", "udp"} {
		target, err := ParseTarget(protocol + "://" + netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := Run(t.Context(), target, freePort(t), strings.NewReader("one\ntwo\n"), &out); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		if want := strings.Repeat("here 127.0.0.1\n", 3); out.String() != want {
			t.Errorf("%s: got %q, want %q", protocol, out.String(), want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	target, err := ParseTarget("tcp://" + netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), target, 0, strings.NewReader(""), &bytes.Buffer{}); err == nil {
		t.Error("where nobody answers there was a conversation")
	}
}

func TestParseTarget(t *testing.T) {
	for _, text := range []string{"tcp://10.87.0.1:80", "udp://[fd87::1]:53", "sctp://10.87.0.1:9000"} {
		if _, err := ParseTarget(text); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{"", "10.87.0.1:80", "http://10.87.0.1:80", "tcp://10.87.0.1", "tcp://web:80", "udp://10.87.0.1:70000"} {
		if target, err := ParseTarget(text); err == nil {
			t.Errorf("%q is taken for %v", text, target)
		}
	}
}
