package load

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/serve"
)

// servers answers on three ports of this host until the test ends.
func servers(t *testing.T) (line, bulk, datagrams netip.AddrPort) {
	t.Helper()
	var listens []serve.Listen
	for _, protocol := range []string{"tcp", "chargen", "udp"} {
		listens = append(listens, serve.Listen{Protocol: protocol, Port: freePort(t)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- serve.Run(ctx, "here", listens, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	here := netip.MustParseAddr("127.0.0.1")
	return netip.AddrPortFrom(here, listens[0].Port), netip.AddrPortFrom(here, listens[1].Port), netip.AddrPortFrom(here, listens[2].Port)
}

func TestRunMeasuresEachTargetInEachRound(t *testing.T) {
	line, bulk, datagrams := servers(t)
	for measure, target := range map[Measure]netip.AddrPort{Connect: line, Request: line, Transfer: bulk, Datagram: datagrams} {
		var out bytes.Buffer
		options := Options{Measure: measure, Connections: 2, For: 20 * time.Millisecond, Rounds: 3}
		if err := Run(t.Context(), options, []netip.AddrPort{target, target}, &out); err != nil {
			t.Fatalf("%s: %v", measure, err)
		}
		var rounds []int
		for text := range strings.Lines(out.String()) {
			var r Result
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(err)
			}
			rounds = append(rounds, r.Round)
			if timed := r.P50US > 0 && r.P99US >= r.P50US; r.Target != target.String() || r.Done == 0 || r.PerSecond <= 0 || r.Failed != 0 ||
				timed != (measure != Transfer) {
				t.Errorf("%s: %+v", measure, r)
			}
		}
		if want := []int{0, 0, 1, 1, 2, 2}; len(rounds) != len(want) || rounds[0] != 0 || rounds[5] != 2 {
			t.Errorf("%s: rounds %v, want %v", measure, rounds, want)
		}
	}
}

func TestATargetThatDoesNotAnswerIsAnError(t *testing.T) {
	nobody := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	for _, measure := range []Measure{Connect, Request, Datagram, Transfer} {
		options := Options{Measure: measure, Connections: 1, For: time.Millisecond, Rounds: 1}
		if err := Run(t.Context(), options, []netip.AddrPort{nobody}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), nobody.String()) {
			t.Errorf("%s: error %v, want one that names the target", measure, err)
		}
	}
}

func TestOnlyTheLabIsLoadedAndNotForever(t *testing.T) {
	good := Options{Measure: Connect, Connections: 8, For: time.Second, Rounds: 3}
	target := []netip.AddrPort{netip.MustParseAddrPort("10.87.0.1:80")}
	if err := good.Validate(append(target, netip.MustParseAddrPort("[fd87::1]:80"))); err != nil {
		t.Error(err)
	}
	for name, test := range map[string]struct {
		change  func(*Options)
		targets []netip.AddrPort
	}{
		"another measure":       {func(o *Options) { o.Measure = "burn" }, target},
		"no connection":         {func(o *Options) { o.Connections = 0 }, target},
		"too many connections":  {func(o *Options) { o.Connections = MaxConnections + 1 }, target},
		"too long a time":       {func(o *Options) { o.For = MaxTotal }, target},
		"no round":              {func(o *Options) { o.Rounds = 0 }, target},
		"an address elsewhere":  {func(*Options) {}, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80")}},
		"an address of a host":  {func(*Options) {}, []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:80")}},
		"one of several is bad": {func(*Options) {}, append(target, netip.MustParseAddrPort("[2001:db8::1]:80"))},
	} {
		options := good
		test.change(&options)
		if err := options.Validate(test.targets); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1)*time.Microsecond)
	}
	for percent, want := range map[int]float64{1: 1, 50: 50, 99: 99, 100: 100} {
		if got := quantile(hundred, percent); got != want {
			t.Errorf("p%d of 1 to 100 is %v, want %v", percent, got, want)
		}
	}
}

// freePort is one that nothing listens on.
func freePort(t *testing.T) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return netip.MustParseAddrPort(listener.Addr().String()).Port()
}

func TestARefusalIsToldFromOtherPackets(t *testing.T) {
	client, server := netip.MustParseAddrPort("10.87.1.1:1024"), netip.MustParseAddrPort("10.87.0.6:82")
	ip := append([]byte{0x45}, make([]byte, 19)...)
	refusal := append(slices.Clone(ip), syn(server, client)...)
	if isReset(payload(refusal), server.Port()) {
		t.Error("a SYN is taken for a refusal")
	}
	refusal[20+13] = flagRST
	if !isReset(payload(refusal), server.Port()) || isReset(payload(refusal), client.Port()) {
		t.Error("a reset is told by its flag and its source port")
	}
	for n := range refusal {
		isReset(payload(refusal[:n]), server.Port()) // whatever comes in
	}
}

func TestASYNHasTheChecksumOfItsPseudoHeader(t *testing.T) {
	for _, ends := range [][2]string{{"10.87.1.1:1024", "10.87.0.6:82"}, {"[fd87::1:1]:1024", "[fd87::6]:82"}} {
		client, server := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		sum := uint32(protocolTCP + tcpHeader)
		for _, words := range [][]byte{client.Addr().AsSlice(), server.Addr().AsSlice(), syn(client, server)} {
			for i := 0; i < len(words); i += 2 {
				sum += uint32(words[i])<<8 + uint32(words[i+1])
			}
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		if sum != 0xffff {
			t.Errorf("%s: the sum of all words with the checksum is %#x, want 0xffff", server, sum)
		}
	}
}
