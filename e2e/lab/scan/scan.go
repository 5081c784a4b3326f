// Package scan asks every port of an address whether something answers, as a port scanner does. It makes whole connections
// and keeps none.
package scan

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Range of ports, both ends included.
type Range struct{ First, Last uint16 }

// ParseRanges reads "22,80,30000-32767".
func ParseRanges(text string) ([]Range, error) {
	var ranges []Range
	for part := range strings.SplitSeq(text, ",") {
		first, last, found := strings.Cut(part, "-")
		if !found {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, lastErr := strconv.ParseUint(last, 10, 16)
		if err = errors.Join(err, lastErr); err != nil || from == 0 || to < from {
			return nil, fmt.Errorf("ports %q: want numbers from 1 to 65535 such as 22,80,30000-32767", part)
		}
		ranges = append(ranges, Range{First: uint16(from), Last: uint16(to)})
	}
	return ranges, nil
}

// Options of a scan.
type Options struct {
	Protocol string // tcp or udp
	Ports    []Range
	// Timeout of each port. It should be shorter than a second, after which TCP repeats its SYN: with AtOnce it is what a
	// scan of silent ports takes.
	Timeout time.Duration
	AtOnce  int
}

// Result of a scan.
type Result struct {
	Address string `json:"address"`
	// Open ports took a connection, or answered a datagram.
	Open []uint16 `json:"open"`
	// Refused is how many said that nothing listens, Silent how many said nothing, Failed how many could not be asked.
	Refused int    `json:"refused"`
	Silent  int    `json:"silent"`
	Failed  int    `json:"failed"`
	Error   string `json:"error,omitempty"` // the first reason
}

// Run scans an address.
func Run(ctx context.Context, addr netip.Addr, options Options) (Result, error) {
	if options.Protocol != "tcp" && options.Protocol != "udp" {
		return Result{}, fmt.Errorf("protocol %q: want tcp or udp", options.Protocol)
	}
	if options.Timeout <= 0 || options.AtOnce <= 0 {
		return Result{}, fmt.Errorf("timeout %s, %d at once: both must be more than nothing", options.Timeout, options.AtOnce)
	}
	result := Result{Address: addr.String(), Open: []uint16{}}
	var mu sync.Mutex
	var asking sync.WaitGroup
	slots := make(chan struct{}, options.AtOnce)
	for _, ports := range options.Ports {
		for port := int(ports.First); port <= int(ports.Last) && ctx.Err() == nil; port++ {
			slots <- struct{}{}
			asking.Go(func() {
				defer func() { <-slots }()
				err := ask(ctx, options, netip.AddrPortFrom(addr, uint16(port)))
				mu.Lock()
				defer mu.Unlock()
				result.add(uint16(port), err)
			})
		}
	}
	asking.Wait()
	slices.Sort(result.Open)
	return result, ctx.Err()
}

func (r *Result) add(port uint16, err error) {
	var timeout net.Error
	switch {
	case err == nil:
		r.Open = append(r.Open, port)
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Refused++
	case errors.As(err, &timeout) && timeout.Timeout():
		r.Silent++
	default:
		r.Failed++
		if r.Error == "" {
			r.Error = err.Error()
		}
	}
}

func ask(ctx context.Context, options Options, to netip.AddrPort) error {
	conn, err := (&net.Dialer{Timeout: options.Timeout}).DialContext(ctx, options.Protocol, to.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if options.Protocol == "tcp" {
		return nil
	}
	if err := conn.SetDeadline(time.Now().Add(options.Timeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("\n")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}
