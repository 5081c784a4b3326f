package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/fairlead/fairlead/pkg/model"
)

// userAgent by which a backend's access log names a check.
const userAgent = "fairlead-health-check"

// How much of an answer's body is read: as much as may have to be searched, else a page (4 KiB), so that the server sees a
// client that took it.
const (
	maxSearch = 64 << 10
	maxBody   = 4 << 10
)

// get asks for the path, on a connection of its own: one that is kept open would tell of the backend's past.
func (p *prober) get(ctx context.Context, target model.Target) error {
	check := target.Check
	tlsConfig, err := p.tlsConfig(check)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, urlOf(target, check.Path), http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", userAgent)
	request.Host = check.Host // empty: that of the URL
	transport := transportTo(target)
	transport.DisableKeepAlives, transport.TLSClientConfig = true, tlsConfig
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request) // follows no redirections and knows no proxy
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if !check.Codes.Has(answer.StatusCode) {
		return failure("status " + answer.Status)
	}
	return search(answer.Body, check.Body)
}

// search looks for a text in a body. Without one the body does not matter: reading it is courtesy.
func search(body io.Reader, text string) error {
	if text == "" {
		_, _ = io.CopyN(io.Discard, body, maxBody)
		return nil
	}
	start, err := io.ReadAll(io.LimitReader(body, maxSearch))
	switch {
	case bytes.Contains(start, []byte(text)):
		return nil
	case err != nil:
		return err
	}
	return failure("the body lacks the text that is to be in it")
}

// urlOf is a path at a target.
func urlOf(target model.Target, path string) string {
	scheme := "http://"
	if target.Check.Type == model.CheckHTTPS {
		scheme = "https://"
	}
	return scheme + target.Addr.String() + path
}

// transportTo makes connections to one target, whatever the request's host.
func transportTo(target model.Target) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, target.Addr) }}
}

// tlsConfig asks for the host's certificate if there is a host. One is taken from any authority unless the check verifies.
func (p *prober) tlsConfig(check model.Check) (*tls.Config, error) {
	if check.Type != model.CheckHTTPS {
		return nil, nil
	}
	name := check.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	config := &tls.Config{ServerName: strings.Trim(name, "[]"), InsecureSkipVerify: !check.Verify}
	if check.CAs != "" {
		var err error
		if config.RootCAs, err = p.authorities.of(check.CAs); err != nil {
			return nil, err
		}
	}
	return config, nil
}

// mostAuthorities bounds how many bundles are kept parsed: more than pools have at a time.
const mostAuthorities = 64

// authorities keeps bundles of certificates parsed.
type authorities struct {
	mu    sync.Mutex
	pools map[string]*x509.CertPool // by PEM; nil if it holds no certificate
}

func (a *authorities) of(bundle string) (*x509.CertPool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	pool, known := a.pools[bundle]
	if !known {
		if len(a.pools) >= mostAuthorities || a.pools == nil {
			a.pools = map[string]*x509.CertPool{}
		}
		if pool = x509.NewCertPool(); !pool.AppendCertsFromPEM([]byte(bundle)) {
			pool = nil
		}
		a.pools[bundle] = pool
	}
	if pool == nil {
		return nil, failure("healthCheck.caBundle has no certificate that can be read: put the authority's, in PEM, into the pool")
	}
	return pool, nil
}
