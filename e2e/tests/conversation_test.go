package tests

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// conversation is an established connection of a host with a server of the lab that answers each line with its name.
type conversation struct {
	t      *testing.T
	write  *io.PipeWriter
	answer *bufio.Scanner
	end    func() // returns when the connection is closed; the test's end does the same
}

// converse connects by TCP from a host and returns who is there.
func converse(t *testing.T, s *scenario.Scenario, host string, addr netip.Addr, port int) (*conversation, string) {
	t.Helper()
	return converseBy(t, s, host, "tcp", 0, netip.AddrPortFrom(addr, uint16(port)))
}

// converseBy connects by a protocol, from a port of a host or, if it is 0, from any, and returns who is there.
func converseBy(t *testing.T, s *scenario.Scenario, host, protocol string, from uint16, to netip.AddrPort) (*conversation, string) {
	t.Helper()
	stdin, write := io.Pipe()
	answers, stdout := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var said strings.Builder
		err := s.Exec(context.Background(), host, cluster.Stdio{In: stdin, Out: stdout, Err: &said},
			"lab", "talk", "--from", strconv.Itoa(int(from)), fmt.Sprintf("%s://%s", protocol, to))
		ended := fmt.Errorf("the connection with %s ended: %w: %s", to, cmp.Or(err, io.ErrUnexpectedEOF), said.String())
		stdin.CloseWithError(ended)
		stdout.CloseWithError(ended)
	}()
	c := &conversation{t: t, write: write, answer: bufio.NewScanner(answers)}
	c.end = sync.OnceFunc(func() { write.Close(); answers.Close(); <-done })
	t.Cleanup(c.end)
	by, err := c.listen()
	must(t, err)
	return c, by
}

// listen returns the name of who answers.
func (c *conversation) listen() (string, error) {
	if !c.answer.Scan() {
		return "", c.answer.Err()
	}
	name, _, _ := strings.Cut(c.answer.Text(), " ")
	return name, nil
}

// ask sends a line and returns the name of who answers, or why nobody can any more.
func (c *conversation) ask() (string, error) {
	if _, err := io.WriteString(c.write, "still there?\n"); err != nil {
		return "", err
	}
	return c.listen()
}

// say sends a line and returns the name of who answers.
func (c *conversation) say() string {
	c.t.Helper()
	by, err := c.ask()
	must(c.t, err)
	return by
}
