// Package load asks servers as fast as they answer and tells how fast that is. Several targets are asked in turn, a short
// while each, round after round: what else the machine does meanwhile hits all alike, and their ratios hold where their
// figures do not.
//
// It loads nothing but the lab: other addresses than its own are refused, and connections and time are bounded.
package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// Measure is what is done, again and again.
type Measure string

// The measures. Of package serve's protocols Connect, Request and Hold need a tcp server, Datagram a udp server,
// Transfer a chargen server.
const (
	// Connect makes a connection, awaits the server's line and resets it, so that no connection of an earlier round is left
	// in anybody's tables for minutes.
	Connect Measure = "connect"
	// Request sends a line and awaits one, on connections made before.
	Request Measure = "request"
	// Datagram sends one and awaits one, from sockets made before. One that is lost ends its socket.
	Datagram Measure = "datagram"
	// Transfer receives all that it can.
	Transfer Measure = "transfer"
	// Flow sends the first packets of connections to a port that nobody listens on and awaits their refusals: no program but
	// this one has a part in it, so that of what is measured most is what kernels do with a new connection. It needs root.
	Flow Measure = "flow"
	// Hold is Request with a pause after each line, for connections that are to be open rather than busy. What failed are
	// connections that broke.
	Hold Measure = "hold"
)

// holdEvery is the pause of Hold.
const holdEvery = time.Second

// Limits of a load.
const (
	MaxConnections = 512
	MaxTotal       = 10 * time.Minute
	// patience is how long one operation may take.
	patience = 5 * time.Second
)

// Options of a load.
type Options struct {
	Measure     Measure
	Connections int           // at once
	For         time.Duration // each target, each round
	Rounds      int
}

// Result is one target's in one round.
type Result struct {
	Target string `json:"target"`
	Round  int    `json:"round"`
	// Done counts the operations that succeeded, of Transfer the bytes; PerSecond is their rate.
	Done      int64   `json:"done"`
	PerSecond float64 `json:"per_second"`
	Failed    int     `json:"failed,omitempty"`
	// P50US and P99US are of the time that one operation took, in microseconds; of neither Transfer nor Flow.
	P50US float64 `json:"p50_us,omitempty"`
	P99US float64 `json:"p99_us,omitempty"`
}

// Validate says what is wrong with options and targets.
func (o Options) Validate(targets []netip.AddrPort) error {
	switch {
	case !slices.Contains([]Measure{Connect, Request, Datagram, Transfer, Flow, Hold}, o.Measure):
		return fmt.Errorf("measure %q: want connect, request, datagram, transfer, flow or hold", o.Measure)
	case o.Connections < 1 || o.Connections > MaxConnections:
		return fmt.Errorf("%d connections: want 1 to %d", o.Connections, MaxConnections)
	case o.For <= 0 || o.Rounds < 1 || o.For*time.Duration(o.Rounds*len(targets)) > MaxTotal:
		return fmt.Errorf("%d rounds of %s for %d targets: want more than nothing, and %s at most in all", o.Rounds, o.For, len(targets), MaxTotal)
	}
	both := topology.Families{V4: true, V6: true}
	networks := slices.Concat(both.LAN(), both.FarNet(), both.ClusterCIDRs(), both.ServiceCIDRs())
	for _, target := range targets {
		if !slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(target.Addr()) }) {
			return fmt.Errorf("target %s is not in the lab, whose networks are %s", target, topology.Join(networks))
		}
	}
	return nil
}

// Run loads the targets and writes a Result as a JSON line per target and round. It fails if a target fails altogether. Every
// other round goes backwards, so that none always follows the same one and pays for what that has left.
func Run(ctx context.Context, options Options, targets []netip.AddrPort, w io.Writer) error {
	output := json.NewEncoder(w)
	targets = slices.Clone(targets)
	for round := range options.Rounds {
		if round > 0 {
			slices.Reverse(targets)
		}
		for _, target := range targets {
			result, err := options.load(ctx, target)
			if err != nil {
				return fmt.Errorf("load %s: %w", target, err)
			}
			result.Round = round
			if err := output.Encode(result); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
	}
	return nil
}

// worker is one connection at a time. Its operation returns what it did, in operations or bytes.
type worker struct {
	operation func() (int64, error)
	again     bool          // also after one that failed
	pause     time.Duration // after each
	done      int64
	took      []time.Duration
	failed    int
	last      error
}

// load loads one target for a while.
func (o Options) load(ctx context.Context, target netip.AddrPort) (Result, error) {
	workers := make([]*worker, o.Connections)
	for i := range workers {
		operation, end, err := o.operation(ctx, target)
		if err != nil {
			return Result{}, err
		}
		defer end()
		workers[i] = &worker{operation: operation, again: o.Measure == Connect}
		if o.Measure == Hold {
			workers[i].pause = holdEvery
		}
	}
	start := time.Now()
	until := start.Add(o.For)
	var group sync.WaitGroup
	for _, w := range workers {
		group.Go(func() { w.run(ctx, until) })
	}
	group.Wait()
	return o.sumUp(target, time.Since(start), workers)
}

func (w *worker) run(ctx context.Context, until time.Time) {
	if w.pause > 0 {
		time.Sleep(rand.N(w.pause)) // or all would send at once
	}
	for begin := time.Now(); begin.Before(until) && ctx.Err() == nil; {
		done, err := w.operation()
		now := time.Now()
		if err != nil {
			w.failed++
			if w.last = err; !w.again {
				return
			}
		} else {
			w.done += done
			w.took = append(w.took, now.Sub(begin))
		}
		if begin = now; w.pause > 0 {
			time.Sleep(w.pause)
			begin = time.Now()
		}
	}
}

func (o Options) sumUp(target netip.AddrPort, elapsed time.Duration, workers []*worker) (Result, error) {
	out := Result{Target: target.String()}
	var took []time.Duration
	var failures []error
	for _, w := range workers {
		out.Done += w.done
		out.Failed += w.failed
		took = append(took, w.took...)
		failures = append(failures, w.last)
	}
	if out.Done == 0 {
		return out, errors.Join(append(failures, errors.New("nothing was done in "+elapsed.String()))...)
	}
	out.PerSecond = float64(out.Done) / elapsed.Seconds()
	if o.Measure != Transfer && o.Measure != Flow {
		slices.Sort(took)
		out.P50US, out.P99US = quantile(took, 50), quantile(took, 99)
	}
	return out, nil
}

// quantile is the nearest-rank one of sorted values, in microseconds.
func quantile(sorted []time.Duration, percent int) float64 {
	return float64(sorted[max((len(sorted)*percent+99)/100, 1)-1].Nanoseconds()) / 1000
}

// operation prepares what is measured; end ends what it needed.
func (o Options) operation(ctx context.Context, target netip.AddrPort) (operation func() (int64, error), end func(), err error) {
	if o.Measure == Connect {
		return func() (int64, error) { return 1, connect(ctx, target) }, func() {}, nil
	}
	if o.Measure == Flow {
		flows, err := newFlows(target)
		if err != nil {
			return nil, nil, err
		}
		return flows.batch, flows.close, nil
	}
	conn, err := o.dial(ctx, target)
	if err != nil {
		return nil, nil, err
	}
	end = func() { _ = conn.Close() }
	if err := conn.SetDeadline(time.Now().Add(o.For + patience)); err != nil {
		return nil, end, err
	}
	if o.Measure == Transfer {
		buffer := make([]byte, 256<<10)
		return func() (int64, error) { n, err := conn.Read(buffer); return int64(n), err }, end, nil
	}
	if o.Measure == Datagram {
		buffer := make([]byte, 256)
		return func() (int64, error) {
			if _, err := conn.Write([]byte("\n")); err != nil {
				return 0, err
			}
			_, err := conn.Read(buffer)
			return 1, err
		}, end, nil
	}
	lines := bufio.NewReader(conn)
	if _, err := lines.ReadSlice('\n'); err != nil {
		end()
		return nil, nil, fmt.Errorf("await the server's line: %w", err)
	}
	return func() (int64, error) {
		if _, err := conn.Write([]byte("\n")); err != nil {
			return 0, err
		}
		_, err := lines.ReadSlice('\n')
		return 1, err
	}, end, nil
}

// dial connects by the protocol of the measure.
func (o Options) dial(ctx context.Context, target netip.AddrPort) (net.Conn, error) {
	if o.Measure == Datagram {
		return (&net.Dialer{}).DialContext(ctx, "udp", target.String())
	}
	return dial(ctx, target)
}

func connect(ctx context.Context, target netip.AddrPort) error {
	conn, err := dial(ctx, target)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var line [256]byte
	_, err = conn.Read(line[:])
	return err
}

// dial connects; what it returns is reset when it is closed.
func dial(ctx context.Context, target netip.AddrPort) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialTCP(ctx, "tcp", netip.AddrPort{}, target)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetLinger(0)
}
