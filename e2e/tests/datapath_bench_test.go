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
	portLines        = 80 // answers connections and lines
	portBulk         = 81 // sends all that it can
	portNobody       = 82 // refuses connections
	benchRounds      = 24
	benchFor         = 100 * time.Millisecond // each path, each round
	benchConnections = 8
)

// measure is one thing that is measured, and what it is called in a benchmark's line.
type measure struct {
	unit        string
	what        load.Measure
	connections int
	port        uint16
}

var measures = []measure{
	{"flow/s", load.Flow, 1, portNobody}, // new connections, where no program has a part in them
	{"conn/s", load.Connect, benchConnections, portLines},
	{"req/s", load.Request, benchConnections, portLines},
	{"B/s", load.Transfer, 2, portBulk},
	{"us", load.Request, 1, portLines}, // time to an answer, where nobody else waits for one
}

// figures are a path's by their unit, one a round.
type figures map[string][]float64

// BenchmarkDatapath measures the ways from a client on the LAN to two servers: straight to one of them, through a VIP by each
// forwarding, through keepalived's IPVS (virtual_server with lb_kind NAT, DR and TUN), and through kube-proxy, which gets the
// same LoadBalancer Service with ipMode VIP, as other load balancers leave it to. All of them take turns, 0.1 s each, round
// after round; a path's figure is the median of its rounds, a ratio's the median of the ratios within each round.
func BenchmarkDatapath(b *testing.B) {
	s, ctx := connect(b)
	nodes, err := s.Nodes(ctx)
	must(b, err)
	if _, err := exec.LookPath("keepalived"); err != nil || len(nodes) != nodesOfDatapath {
		b.Skipf("needs keepalived and %d nodes: run by make bench", nodesOfDatapath)
	}
	c := newCourse(b, s)
	for _, others := range []int{1, 1000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			c.fill(b, others)
			all := c.measure(b)
			for _, path := range c.paths {
				b.Run("path="+path.name, func(b *testing.B) {
					for b.Loop() {
						all[path.name].report(b)
					}
				})
			}
			for _, path := range c.paths {
				for _, rival := range path.rivals {
					b.Run(fmt.Sprintf("ratio=%s:%s", path.name, rival), func(b *testing.B) {
						for b.Loop() {
							all[path.name].reportRatio(b, all[rival])
						}
					})
				}
			}
		})
	}
}

// path is a way to the servers, with those that it is compared to.
type path struct {
	name   string
	addr   netip.Addr
	rivals []string
}

// measure loads all paths in turn. The first round is to warm up.
func (c *course) measure(b *testing.B) map[string]figures {
	b.Helper()
	out := map[string]figures{}
	for _, path := range c.paths {
		out[path.name] = figures{}
	}
	for _, m := range measures {
		command := []string{
			"lab", "load", "--measure", string(m.what), "--connections", strconv.Itoa(m.connections), "--for", benchFor.String(),
			"--rounds", strconv.Itoa(1 + benchRounds),
		}
		for _, path := range c.paths {
			command = append(command, netip.AddrPortFrom(path.addr, m.port).String())
		}
		text, err := c.Output(b.Context(), "client", command...)
		must(b, err)
		for i, line := range strings.Split(text, "\n") {
			var result load.Result
			must(b, json.Unmarshal([]byte(line), &result))
			path := c.paths[i%len(c.paths)]
			if result.Failed > 0 {
				b.Errorf("%s: %d of %d operations failed (%s)", path.name, result.Failed, int(result.Done)+result.Failed, m.what)
			}
			if result.Round > 0 {
				out[path.name].add(m.unit, result)
			}
		}
	}
	return out
}

func (f figures) add(unit string, result load.Result) {
	if unit != "us" {
		f[unit] = append(f[unit], result.PerSecond)
		return
	}
	f["p50-us"] = append(f["p50-us"], result.P50US)
	f["p99-us"] = append(f["p99-us"], result.P99US)
}

func (f figures) report(b *testing.B) {
	for unit, values := range f {
		b.ReportMetric(median(values), unit)
	}
	b.ReportMetric(0, "ns/op")
}

// reportRatio gives for each unit the median of the rounds' ratios, and between what it is with 95 % confidence.
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
