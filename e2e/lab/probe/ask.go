package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/e2e/lab/serve"
)

// maxBody is how much of an answer is read.
const maxBody = 64 << 10

// asker sends one request and returns the first word of the answer.
type asker struct{ client *http.Client }

// newAsker checks the URLs: http and https, and tcp, udp and sctp as package serve speaks them.
func newAsker(urls []string, options Options) (*asker, error) {
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("URL %q: %w", text, err)
		}
		switch u.Scheme {
		case "http", "https":
		case "tcp", "udp", "sctp":
			if _, err := netip.ParseAddrPort(u.Host); err != nil {
				return nil, fmt.Errorf("URL %q: want ADDRESS:PORT: %w", text, err)
			}
		default:
			return nil, fmt.Errorf("URL %q: want http, https, tcp, udp or sctp", text)
		}
	}
	// No proxy and no redirects: what answers is what was asked. Certificates are not checked, as a kubelet does not.
	return &asker{client: &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: !options.Keep, MaxIdleConnsPerHost: minInFlight,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (a *asker) close() { a.client.CloseIdleConnections() }

func (a *asker) ask(ctx context.Context, target string) (string, error) {
	u, err := url.Parse(target)
	if err != nil {
		return "", err
	}
	switch u.Scheme {
	case "http", "https":
		return a.http(ctx, target)
	case "sctp":
		return sctp(ctx, u.Host)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, u.Scheme, u.Host)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if u.Scheme == "udp" {
		if _, err := conn.Write([]byte("\n")); err != nil {
			return "", err
		}
	}
	return line(conn)
}

func (a *asker) http(ctx context.Context, target string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return "", err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return "", err
	}
	if response.StatusCode/100 != 2 {
		return "", fmt.Errorf("status %s", response.Status)
	}
	return word(string(body)), nil
}

func sctp(ctx context.Context, host string) (string, error) {
	to, err := netip.ParseAddrPort(host)
	if err != nil {
		return "", err
	}
	conn, err := serve.DialSCTP(ctx, 0, to)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	return line(conn)
}

func line(r io.Reader) (string, error) {
	text, err := bufio.NewReader(r).ReadString('\n')
	if err != nil && (text == "" || !errors.Is(err, io.EOF)) {
		return "", err
	}
	return word(text), nil
}

// reason is an error without addresses and ports: what was being done, and what the system said.
func reason(err error) string {
	if err == nil {
		return ""
	}
	what := ""
	var operation *net.OpError
	if errors.As(err, &operation) {
		what = operation.Op + ": "
	}
	var timeout net.Error
	var number syscall.Errno
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return what + "timeout"
	case errors.As(err, &number):
		return what + number.Error()
	case errors.Is(err, io.EOF):
		return what + "end of file"
	}
	return what + "failed"
}

func word(text string) string {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}
