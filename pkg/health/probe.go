package health

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/pkg/model"
)

// userAgent by which a backend's access log names a check.
const userAgent = "fairlead-health-check"

// maxBody is how much of an answer's body is read, so that the server sees a client that took it: 4 KiB, a page.
const maxBody = 4 << 10

// probe makes one check, which the context's deadline bounds. Its error is what a user is told.
func probe(ctx context.Context, target model.Target) error {
	if target.Check.Type == model.CheckTCP {
		return explain(ctx, target, "TCP connect", connect(ctx, target))
	}
	what := fmt.Sprintf("%s GET %s", target.Check.Type, target.Check.Path)
	return explain(ctx, target, what, get(ctx, target))
}

func connect(ctx context.Context, target model.Target) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", target.Addr.String())
	if err != nil {
		return err
	}
	_ = conn.Close() // the connection opened: that was the question
	return nil
}

// get asks for the path, on a connection of its own: one that is kept open would tell of the backend's past.
func get(ctx context.Context, target model.Target) error {
	check := target.Check
	url := strings.ToLower(string(check.Type)) + "://" + target.Addr.String() + check.Path
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", userAgent)
	request.Host = check.Host // empty: that of the URL
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: tlsConfig(check)}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request) // follows no redirections and knows no proxy
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, answer.Body, maxBody) // the status is known: the rest is courtesy
	_ = answer.Body.Close()
	if !check.Codes.Has(answer.StatusCode) {
		return statusError(answer.Status)
	}
	return nil
}

// tlsConfig asks for the host's certificate if there is a host. One is taken from any authority unless the check verifies.
func tlsConfig(check model.Check) *tls.Config {
	name := check.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return &tls.Config{ServerName: strings.Trim(name, "[]"), InsecureSkipVerify: !check.Verify}
}

// statusError is a status line that was not expected, such as "503 Service Unavailable".
type statusError string

func (e statusError) Error() string { return "status " + string(e) }

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
