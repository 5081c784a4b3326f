package health

import (
	"context"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

func TestTheBodyOfAnAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			_, _ = io.WriteString(w, strings.Repeat(".", maxSearch))
		}
		_, _ = io.WriteString(w, "state: UP\n")
	}))
	t.Cleanup(server.Close)
	addr := addrOf(t, server.Listener)
	for name, test := range map[string]struct{ path, body, err string }{
		"the text is in it":                {path: "/", body: "state: UP"},
		"it is not":                        {path: "/", body: "state: DOWN", err: "HTTP GET /: the body lacks the text that is to be in it"},
		"nor in another case":              {path: "/", body: "STATE: UP", err: "the body lacks the text"},
		"nor too late":                     {path: "/late", body: "state: UP", err: "the body lacks the text"},
		"nothing is looked for in the end": {path: "/late"},
	} {
		t.Run(name, func(t *testing.T) {
			check := model.Check{Type: model.CheckHTTP, Path: test.path, Body: test.body, Codes: codes(200, 200)}
			wantError(t, probeOf(t, addr, check), test.err)
		})
	}
}

func TestCertificatesAreVerifiedByTheBundle(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	addr := addrOf(t, server.Listener)
	bundle := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	check := model.Check{Type: model.CheckHTTPS, Path: "/", Codes: codes(404, 404), Host: "example.com", Verify: true, CAs: bundle}
	wantError(t, probeOf(t, addr, check), "")
	check.Host = "other.test"
	wantError(t, probeOf(t, addr, check), "HTTPS GET /: tls: failed to verify certificate: x509: certificate is valid for example.com")
	check.CAs = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
	wantError(t, probeOf(t, addr, check), "healthCheck.caBundle has no certificate that can be read")
}

// echo is a UDP server that answers "pong", or is silent, until the test ends.
func echo(t *testing.T, address string, answer bool) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", address, err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 64)
		for {
			n, peer, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			if answer {
				_, _ = conn.WriteTo([]byte("pong to "+string(buffer[:n])), peer)
			}
		}
	}()
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

func TestUDP(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		talks, silent := echo(t, address, true), echo(t, address, false)
		gone, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		gone.Close()
		refuses := netip.MustParseAddrPort(gone.LocalAddr().String())
		short := 50 * time.Millisecond
		for name, test := range map[string]struct {
			addr           netip.AddrPort
			payload, reply string
			timeout        time.Duration
			err            string
		}{
			"any reply is good":                   {addr: talks},
			"silence is good where none is asked": {addr: silent, payload: "ping"},
			"a port that is closed":               {addr: refuses, payload: "ping", err: "UDP: connection refused"},
			"which an empty datagram tells too":   {addr: refuses, err: "UDP: connection refused"},
			"the reply that is asked for":         {addr: talks, payload: "ping", reply: "to ping"},
			"another reply":                       {addr: talks, payload: "ping", reply: "SERVING", err: "UDP: the reply lacks what is to be in it"},
			"silence where a reply is asked for":  {addr: silent, reply: "pong", timeout: short, err: "UDP: no answer within 50ms"},
			"refusal where a reply is asked for":  {addr: refuses, reply: "pong", err: "UDP: connection refused"},
		} {
			t.Run(address+" "+name, func(t *testing.T) {
				check := model.Check{Type: model.CheckUDP, Payload: test.payload, Reply: test.reply, Timeout: test.timeout}
				wantError(t, probeOf(t, test.addr, check), test.err)
			})
		}
	}
}

// grpcServer answers health checks by service as grpc-go does: "" and "up" serve, "down" does not, others are not known.
func grpcServer(t *testing.T) netip.AddrPort {
	t.Helper()
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		if r.ProtoMajor != 2 || r.URL.Path != healthMethod || r.Header.Get("Content-Type") != "application/grpc" {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		frames := map[string]string{
			"\x00\x00\x00\x00\x00":               "\x00\x00\x00\x00\x02\x08\x01",
			"\x00\x00\x00\x00\x04\x0a\x02up":     "\x00\x00\x00\x00\x02\x08\x01",
			"\x00\x00\x00\x00\x06\x0a\x04down":   "\x00\x00\x00\x00\x02\x08\x02",
			"\x00\x00\x00\x00\x07\x0a\x05empty":  "\x00\x00\x00\x00\x00",
			"\x00\x00\x00\x00\x08\x0a\x06broken": "\x00\x00\x00\x00\x09\x08\x01",
		}
		frame, known := frames[string(body)]
		if !known { // without a message, the status stands in the headers
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "unknown%20service")
			return
		}
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = io.WriteString(w, frame)
		w.Header().Set("Grpc-Status", "0")
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return addrOf(t, server.Listener)
}

func TestGRPC(t *testing.T) {
	addr := grpcServer(t)
	for service, want := range map[string]string{
		"": "", "up": "", "down": "gRPC health: status NOT_SERVING", "empty": "gRPC health: status UNKNOWN",
		"other": "gRPC health: gRPC status 5: unknown service", "broken": "gRPC health: the answer is no HealthCheckResponse",
	} {
		t.Run(service, func(t *testing.T) {
			wantError(t, probeOf(t, addr, model.Check{Type: model.CheckGRPC, Service: service}), want)
		})
	}
	wantError(t, probeOf(t, closed(t), model.Check{Type: model.CheckGRPC}), "gRPC health: connection refused")
	wantError(t, probeOf(t, addrOf(t, listenHTTP(t)), model.Check{Type: model.CheckGRPC}), "gRPC health: ")
	silent := model.Check{Type: model.CheckGRPC, Timeout: 50 * time.Millisecond}
	wantError(t, probeOf(t, addrOf(t, listen(t, "127.0.0.1:0")), silent), "gRPC health: no answer within 50ms")
}

// FuzzReadHealth looks for answers on which the reader panics.
func FuzzReadHealth(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02\x08\x01"))
	f.Add([]byte("\x00\x00\x00\x00\x01\x08"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if readHealth(frame) == nil && !strings.HasPrefix(string(frame[frameHeader:]), "\x08") {
			t.Errorf("%q is taken for SERVING", frame)
		}
	})
}

func TestAChecksConnectionIsReset(t *testing.T) {
	listener := listen(t, "127.0.0.1:0")
	wantError(t, probeOf(t, addrOf(t, listener), model.Check{Type: model.CheckTCP}), "")
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "connection reset") {
		t.Errorf("the backend read %v, want that the connection was reset: closed in order it would stay in TIME_WAIT", err)
	}
}
