package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

func TestParseListen(t *testing.T) {
	for text, want := range map[string]Listen{
		"http:8080": {"http", 8080}, "https:8443": {"https", 8443}, "tcp:1": {"tcp", 1}, "udp:65535": {"udp", 65535}, "sctp:9000": {"sctp", 9000}, "chargen:19": {"chargen", 19},
	} {
		got, err := ParseListen(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "http", "http:", "http:0", "http:65536", "icmp:1", "tcp:-1", "8080", "tcp:80:80"} {
		if got, err := ParseListen(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}

func TestTransport(t *testing.T) {
	for protocol, want := range map[string]string{"http": "TCP", "https": "TCP", "tcp": "TCP", "udp": "UDP", "sctp": "SCTP", "chargen": "TCP"} {
		if got := (Listen{Protocol: protocol}).Transport(); got != want {
			t.Errorf("%s: got %s, want %s", protocol, got, want)
		}
	}
}

func TestLineNamesThePeerWithoutPort(t *testing.T) {
	s := &server{name: "web-1"}
	for peer, want := range map[string]string{
		"10.0.0.1:1234": "web-1 10.0.0.1\n", "[fd00::1]:1234": "web-1 fd00::1\n",
		"[::ffff:10.0.0.1]:1": "web-1 10.0.0.1\n", "[fe80::1%eth0]:1": "web-1 fe80::1\n", "unknown": "web-1 unknown\n",
	} {
		if got := s.line(peer); got != want {
			t.Errorf("%s: got %q, want %q", peer, got, want)
		}
	}
}

// freePort is one that nothing listens on, for both kinds of sockets as far as can be known.
func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

func TestServerAnswers(t *testing.T) {
	listens := []Listen{{"http", freePort(t)}, {"tcp", freePort(t)}, {"udp", freePort(t)}}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- Run(ctx, "web-1", listens, func() { close(ready) }) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	const want = "web-1 127.0.0.1\n"
	response, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", listens[0].Port))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || string(body) != want || response.StatusCode != http.StatusOK {
		t.Errorf("http: %d %q, %v", response.StatusCode, body, err)
	}
	for _, listen := range listens[1:] {
		conn, err := net.Dial(listen.Protocol, fmt.Sprintf("127.0.0.1:%d", listen.Port))
		if err != nil {
			t.Fatal(err)
		}
		reader := bufio.NewReader(conn)
		if listen.Protocol == "tcp" {
			if line, err := reader.ReadString('\n'); err != nil || line != want {
				t.Errorf("tcp on connect: %q, %v", line, err)
			}
		}
		if _, err := conn.Write([]byte("hello\n")); err != nil {
			t.Fatal(err)
		}
		if line, err := reader.ReadString('\n'); err != nil || line != want {
			t.Errorf("%s: %q, %v", listen.Protocol, line, err)
		}
		conn.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("a server that is told to stop ends with %v", err)
	}
}
