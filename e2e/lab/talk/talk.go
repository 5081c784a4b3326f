// Package talk keeps one connection with a server of package serve and says there what it is told, line by line. The
// connection may have a port of the caller's choice, so that what comes after it can be the same flow to who balances it.
package talk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/serve"
)

const (
	// patience is how long a connection may take to be made, and an answer to come.
	patience = time.Minute
	// again is when a datagram without an answer is sent again, as clients of UDP do.
	again = time.Second
)

// Target is a server and the way to it.
type Target struct {
	protocol string
	to       netip.AddrPort
}

// ParseTarget reads PROTOCOL://ADDRESS:PORT of tcp, udp or sctp.
func ParseTarget(text string) (Target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return Target{}, fmt.Errorf("URL %q: %w", text, err)
	}
	to, err := netip.ParseAddrPort(u.Host)
	if u.Scheme != "tcp" && u.Scheme != "udp" && u.Scheme != "sctp" || err != nil {
		return Target{}, fmt.Errorf("URL %q: want tcp, udp or sctp://ADDRESS:PORT", text)
	}
	return Target{protocol: u.Scheme, to: to}, nil
}

// conn is what connections of all protocols have.
type conn interface {
	io.ReadWriteCloser
	SetDeadline(time.Time) error
}

// dial connects from a port, or from any if it is 0.
func (t Target) dial(ctx context.Context, from uint16) (conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if t.protocol == "sctp" {
		return serve.DialSCTP(ctx, from, t.to)
	}
	local := ":" + strconv.Itoa(int(from))
	dialer := net.Dialer{}
	var err error
	if t.protocol == "udp" {
		dialer.LocalAddr, err = net.ResolveUDPAddr("udp", local)
	} else {
		dialer.LocalAddr, err = net.ResolveTCPAddr("tcp", local)
	}
	if err != nil {
		return nil, err
	}
	return dialer.DialContext(ctx, t.protocol, t.to.String())
}

// Run writes what the server says on connect, and what it says to each line of in, until in ends. Over UDP it begins with an
// empty line of its own: there is no connecting.
func Run(ctx context.Context, target Target, from uint16, in io.Reader, out io.Writer) error {
	conn, err := target.dial(ctx, from)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	ask := func(line []byte) error {
		answer, err := target.ask(conn, answers, line)
		if err == nil {
			_, err = io.WriteString(out, answer)
		}
		return err
	}
	var first []byte
	if target.protocol == "udp" {
		first = []byte("\n")
	}
	if err := ask(first); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if err := ask(append(lines.Bytes(), '\n')); err != nil {
			return err
		}
	}
	return lines.Err()
}

// ask sends a line, if there is one, and awaits another.
func (t Target) ask(conn conn, answers *bufio.Reader, line []byte) (string, error) {
	for deadline := time.Now().Add(patience); ; {
		until := deadline
		if next := time.Now().Add(again); t.protocol == "udp" && next.Before(deadline) {
			until = next
		}
		if err := conn.SetDeadline(until); err != nil {
			return "", err
		}
		if len(line) > 0 {
			if _, err := conn.Write(line); err != nil {
				return "", err
			}
		}
		answer, err := answers.ReadString('\n')
		if !errors.Is(err, os.ErrDeadlineExceeded) || until.Equal(deadline) {
			return answer, err
		}
	}
}
