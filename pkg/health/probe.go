package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"

	"github.com/fairlead/fairlead/pkg/model"
)

// prober makes checks, several at once.
type prober struct{ authorities authorities }

// probe makes one check, which the context's deadline bounds. Its error is what a user is told.
func (p *prober) probe(ctx context.Context, target model.Target) error {
	switch check := target.Check; check.Type {
	case model.CheckHTTP, model.CheckHTTPS:
		return explain(ctx, target, fmt.Sprintf("%s GET %s", check.Type, check.Path), p.get(ctx, target))
	case model.CheckUDP:
		return explain(ctx, target, "UDP", exchange(ctx, target))
	case model.CheckGRPC:
		return explain(ctx, target, "gRPC health", askHealth(ctx, target))
	default:
		return explain(ctx, target, "TCP connect", connect(ctx, target))
	}
}

func connect(ctx context.Context, target model.Target) error {
	conn, err := dial(ctx, target.Addr)
	if err != nil {
		return err
	}
	_ = conn.Close() // the connection opened: that was the question
	return nil
}

// dial opens a connection that is reset when it is closed, as HAProxy does with its checks: a port in TIME_WAIT for a minute
// and a conntrack entry for two would run out at some hundred checks a second.
func dial(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	conn, err := new(net.Dialer).DialTCP(ctx, "tcp", netip.AddrPort{}, addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetLinger(0) // without it the check is as good
	return conn, nil
}

// failure says what was wrong with an answer.
type failure string

func (f failure) Error() string { return string(f) }

// explain says in few words what failed: the same failure gives the same text, without ports of ours.
func explain(ctx context.Context, target model.Target, what string, err error) error {
	if err == nil {
		return nil
	}
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%s: no answer within %v", what, target.Check.Timeout)
	case errors.As(err, &errno):
		return fmt.Errorf("%s: %w", what, errno)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%s: the backend closed the connection", what)
	}
	return fmt.Errorf("%s: %w", what, err)
}
