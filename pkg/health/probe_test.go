package health

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// patience bounds every wait for something real.
const patience = 30 * time.Second

func codes(first, last int) (out model.StatusCodes) {
	out.Add(first, last)
	return out
}

func addrOf(t *testing.T, listener net.Listener) netip.AddrPort {
	t.Helper()
	addr, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// closed is an address where nothing listens.
func closed(t *testing.T) netip.AddrPort {
	listener := listen(t, "127.0.0.1:0")
	addr := addrOf(t, listener)
	listener.Close()
	return addr
}

func probeOf(t *testing.T, addr netip.AddrPort, check model.Check) error {
	t.Helper()
	if check.Timeout == 0 {
		check.Timeout = patience
	}
	ctx, cancel := context.WithTimeout(t.Context(), check.Timeout)
	defer cancel()
	return new(prober).probe(ctx, model.Target{Addr: addr, Check: check})
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestTCP(t *testing.T) {
	tcp := model.Check{Type: model.CheckTCP}
	wantError(t, probeOf(t, addrOf(t, listen(t, "127.0.0.1:0")), tcp), "")
	wantError(t, probeOf(t, addrOf(t, listen(t, "[::1]:0")), tcp), "")
	wantError(t, probeOf(t, closed(t), tcp), "TCP connect: connection refused")
}

func TestHTTP(t *testing.T) {
	var mu sync.Mutex
	var asked *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = r
		mu.Unlock()
		switch r.URL.Path {
		case "/down":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/moved":
			http.Redirect(w, r, "/down", http.StatusFound)
		case "/reset":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		}
	}))
	t.Cleanup(server.Close)
	addr := addrOf(t, server.Listener)
	for name, test := range map[string]struct {
		check model.Check
		err   string
	}{
		"an expected code":            {check: model.Check{Path: "/", Codes: codes(200, 399)}},
		"a redirection is an answer":  {check: model.Check{Path: "/moved", Codes: codes(200, 399)}},
		"unless it is not expected":   {check: model.Check{Path: "/moved", Codes: codes(200, 200)}, err: "HTTP GET /moved: status 302 Found"},
		"another code":                {check: model.Check{Path: "/down", Codes: codes(200, 399)}, err: "HTTP GET /down: status 503 Service Unavailable"},
		"which may be the good one":   {check: model.Check{Path: "/down", Codes: codes(503, 503)}},
		"a connection without answer": {check: model.Check{Path: "/reset", Codes: codes(200, 399)}, err: "HTTP GET /reset: the backend closed the connection"},
		"a path that cannot be asked": {check: model.Check{Path: "/%zz", Codes: codes(200, 399)}, err: "invalid URL escape"},
	} {
		t.Run(name, func(t *testing.T) {
			test.check.Type = model.CheckHTTP
			wantError(t, probeOf(t, addr, test.check), test.err)
		})
	}
	wantError(t, probeOf(t, addr, model.Check{Type: model.CheckHTTP, Path: "/ready?full=1", Host: "web.example", Codes: codes(200, 200)}), "")
	mu.Lock()
	defer mu.Unlock()
	if asked.Host != "web.example" || asked.URL.String() != "/ready?full=1" || asked.Method != http.MethodGet || asked.UserAgent() != userAgent {
		t.Errorf("asked was %s %s of %s by %s", asked.Method, asked.URL, asked.Host, asked.UserAgent())
	}
}

func TestASilentBackendFailsInTime(t *testing.T) {
	addr := addrOf(t, listen(t, "127.0.0.1:0")) // connects, and answers nothing
	check := model.Check{Type: model.CheckHTTP, Path: "/", Codes: codes(200, 399), Timeout: 50 * time.Millisecond}
	wantError(t, probeOf(t, addr, check), "HTTP GET /: no answer within 50ms")
}

func TestHTTPS(t *testing.T) {
	var name atomic.Value
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { name.Store(r.TLS.ServerName) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it does not like that its certificate is refused
	server.StartTLS()
	t.Cleanup(server.Close)
	addr := addrOf(t, server.Listener)
	check := model.Check{Type: model.CheckHTTPS, Path: "/", Codes: codes(200, 200)}
	wantError(t, probeOf(t, addr, check), "")
	if got := name.Load(); got != "" {
		t.Errorf("without a host the handshake named %q", got)
	}
	check.Host = "web.example:443"
	wantError(t, probeOf(t, addr, check), "")
	if got := name.Load(); got != "web.example" {
		t.Errorf("the handshake named %q, want web.example", got)
	}
	check.Verify = true
	wantError(t, probeOf(t, addr, check), "HTTPS GET /: tls: failed to verify certificate: x509: ")
	wantError(t, probeOf(t, addrOf(t, listenHTTP(t)), model.Check{Type: model.CheckHTTPS, Path: "/", Codes: codes(200, 200)}),
		"HTTPS GET /: tls: first record does not look like a TLS handshake")
}

func listenHTTP(t *testing.T) net.Listener {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return server.Listener
}

// TestABackendThatDiesAndComesBack is the Checker with real connections.
func TestABackendThatDiesAndComesBack(t *testing.T) {
	var healthy atomic.Bool
	healthy.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !healthy.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	news := make(chan struct{}, 1)
	var checks atomic.Int32
	checker := New(Config{
		Notify:  func() { news <- struct{}{} },
		Observe: func(model.Target, time.Duration, error) { checks.Add(1) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { checker.Run(ctx) })
	t.Cleanup(func() { cancel(); work.Wait() })
	target := model.Target{Addr: addrOf(t, server.Listener), Check: model.Check{
		Type: model.CheckHTTP, Path: "/", Codes: codes(200, 399), Interval: 5 * time.Millisecond, Timeout: patience, Rise: 2, Fall: 2,
	}}
	checker.Change(set(target))
	for deadline := time.Now().Add(patience); checks.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was checked")
		}
	}
	for _, up := range []bool{false, true} {
		healthy.Store(up)
		select {
		case <-news:
		case <-time.After(patience):
			t.Fatalf("nobody was told that the backend is healthy: %v", up)
		}
		if got := checker.Verdict(target); got.Down == up || !up && got.Reason != "HTTP GET /: status 500 Internal Server Error" {
			t.Errorf("healthy %v, verdict %+v", up, got)
		}
	}
}
