package tests

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/load"
)

// Nodes of BenchmarkDatapath (make bench gives the first two a kube-proxy in mode iptables, the others one in mode nftables).
// Each balancer has a node to itself, so that none pays for another's rules; all have the same two backends, on the nodes'
// own network, so that there is one hop behind every balancer.
const (
	nodeIPTables     = "n1" // kube-proxy, mode iptables
	nodeVIPIPTables  = "n2" // Fairlead, beside kube-proxy in mode iptables
	nodeNFTables     = "n3" // kube-proxy, mode nftables
	nodeVIP          = "n4" // Fairlead, beside kube-proxy in mode nftables
	nodeKeepalived   = "n5" // keepalived, beside kube-proxy in mode nftables
	nodeBackend1     = "n6"
	nodeBackend2     = "n7"
	nodesOfDatapath  = 7
	portLines        = 80                     // answers connections, lines and datagrams
	portBulk         = 81                     // sends all that it can
	portNobody       = 82                     // refuses connections
	benchRounds      = 24                     // unless FAIRLEAD_ROUNDS says otherwise
	benchDuel        = 3                      // times as many rounds for two paths that are compared alone
	benchFor         = 100 * time.Millisecond // each path, each round
	benchConnections = 8
)

// measure is one thing that is measured, and what it is called in a benchmark's line; of what is timed that is the beginning.
type measure struct {
	unit        string
	what        load.Measure
	connections int
	port        uint16
	timed       bool
}

var (
	measuresTCP = []measure{
		{"flow/s", load.Flow, 1, portNobody, false}, // new connections, where no program has a part in them
		{"conn/s", load.Connect, benchConnections, portLines, false},
		{"req/s", load.Request, benchConnections, portLines, false},
		{"B/s", load.Transfer, 2, portBulk, false},
		{"", load.Request, 1, portLines, true}, // time to an answer, where nobody else waits for one
	}
	measuresUDP = []measure{
		{"udp-req/s", load.Datagram, benchConnections, portLines, false},
		{"udp-", load.Datagram, 1, portLines, true},
	}
)

// figures are a path's by their unit, one a round.
type figures map[string][]float64

// BenchmarkDatapath measures the ways from a client on the LAN to two servers: straight to one of them, through a VIP by each
// forwarding, through keepalived's IPVS (virtual_server with lb_kind NAT, DR and TUN), and through kube-proxy, which gets the
// same LoadBalancer Service with ipMode VIP, as other load balancers leave it to. All of them take turns, 0.1 s each, round
// after round; a path's figure is the median of its rounds, a ratio's the median of the ratios within each round. Then the VIP
// that masquerades and keepalived take turns alone, with more rounds, for a ratio with a narrower interval. Among 1,000 other
// Services it is by IPv4 and TCP only, for the sake of time.
func BenchmarkDatapath(b *testing.B) {
	s, ctx := connect(b)
	nodes, err := s.Nodes(ctx)
	must(b, err)
	if _, err := exec.LookPath("keepalived"); err != nil || len(nodes) != nodesOfDatapath {
		b.Skipf("needs keepalived and %d nodes: run by make bench", nodesOfDatapath)
	}
	rounds := atLeastOne(b, "FAIRLEAD_ROUNDS", benchRounds)
	c := newCourse(b, s)
	all := slices.Concat(measuresTCP, measuresUDP)
	c.fill(b, 1)
	for _, family := range []ipFamily{ipv4, ipv6} {
		b.Run("others=1/family="+family.String(), func(b *testing.B) { c.compare(b, c.paths[family], all, rounds) })
	}
	for _, family := range []ipFamily{ipv4, ipv6} {
		b.Run("duel=masquerade/family="+family.String(), func(b *testing.B) { c.compare(b, c.duelists(family), all, benchDuel*rounds) })
	}
	b.Run("others=1000/family="+ipv4.String(), func(b *testing.B) {
		c.fill(b, 1000)
		c.compare(b, c.paths[ipv4], measuresTCP, rounds)
	})
}

// path is a way to the servers, with those that it is compared to.
type path struct {
	name   string
	addr   netip.Addr
	rivals []string
}

// duelists are the VIP that masquerades and what it is to come up to.
func (c *course) duelists(family ipFamily) (two []path) {
	for _, path := range c.paths[family] {
		if path.name == pathVIP+masquerade || path.name == pathKeepalived+masquerade {
			two = append(two, path)
		}
	}
	return two
}

// compare measures paths and reports their figures and ratios.
func (c *course) compare(b *testing.B, paths []path, measures []measure, rounds int) {
	b.Helper()
	all := c.measure(b, paths, measures, rounds)
	for _, path := range paths {
		b.Run("path="+path.name, func(b *testing.B) {
			for b.Loop() {
				all[path.name].report(b)
			}
		})
	}
	for _, path := range paths {
		for _, rival := range path.rivals {
			if all[rival] == nil {
				continue
			}
			b.Run(fmt.Sprintf("ratio=%s:%s", path.name, rival), func(b *testing.B) {
				for b.Loop() {
					all[path.name].reportRatio(b, all[rival])
				}
			})
		}
	}
}

// measure loads paths in turn. The first round is to warm up.
func (c *course) measure(b *testing.B, paths []path, measures []measure, rounds int) map[string]figures {
	b.Helper()
	out := map[string]figures{}
	for _, m := range measures {
		command := []string{
			"lab", "load", "--measure", string(m.what), "--connections", strconv.Itoa(m.connections), "--for", benchFor.String(),
			"--rounds", strconv.Itoa(1 + rounds),
		}
		names := map[string]string{}
		for _, path := range paths {
			target := netip.AddrPortFrom(path.addr, m.port).String()
			command, names[target] = append(command, target), path.name
		}
		text, err := c.Output(b.Context(), "client", command...)
		must(b, err)
		for line := range strings.Lines(text) {
			var result load.Result
			must(b, json.Unmarshal([]byte(line), &result))
			name := names[result.Target]
			if result.Failed > 0 {
				b.Errorf("%s: %d of %d operations failed (%s)", name, result.Failed, int(result.Done)+result.Failed, m.what)
			}
			if out[name] == nil {
				out[name] = figures{}
			}
			if result.Round > 0 {
				out[name].add(m, result)
			}
		}
	}
	return out
}

func (f figures) add(m measure, result load.Result) {
	if !m.timed {
		f[m.unit] = append(f[m.unit], result.PerSecond)
		return
	}
	f[m.unit+"p50-us"] = append(f[m.unit+"p50-us"], result.P50US)
	f[m.unit+"p99-us"] = append(f[m.unit+"p99-us"], result.P99US)
}

func (f figures) report(b *testing.B) {
	for unit, values := range f {
		b.ReportMetric(median(values), unit)
	}
	b.ReportMetric(0, "ns/op")
}

// reportRatio gives for each unit the median of the rounds' ratios, between what it is with 95 % confidence, and the quartiles, between
// which half of the rounds are.
func (f figures) reportRatio(b *testing.B, other figures) {
	for unit, values := range f {
		var ratios []float64
		for i, value := range values {
			ratios = append(ratios, value/other[unit][i])
		}
		slices.Sort(ratios)
		low, high := confidence(len(ratios))
		b.ReportMetric(median(ratios), unit+":ratio")
		b.ReportMetric(ratios[low], unit+":low")
		b.ReportMetric(ratios[high], unit+":high")
		b.ReportMetric(ratios[len(ratios)/4], unit+":q1")
		b.ReportMetric(ratios[len(ratios)-1-len(ratios)/4], unit+":q3")
	}
	b.ReportMetric(0, "ns/op")
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// confidence are the ranks of n sorted values between which their median is with 95 % confidence, whatever their
// distribution: by the normal approximation of the binomial one.
func confidence(n int) (low, high int) {
	half := 1.96 * math.Sqrt(float64(n)) / 2
	low = max(int(float64(n)/2-half), 0)
	return low, n - 1 - low
}
