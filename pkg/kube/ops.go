package kube

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of the operators' HTTP server. A kubelet probe gives up after 1 s and a Prometheus scrape after 10 s unless told
// otherwise; a request that takes longer than this serves nobody.
const (
	opsHeaderTimeout   = 5 * time.Second
	opsRequestTimeout  = 30 * time.Second
	opsShutdownTimeout = 2 * time.Second
)

// OpsConfig configures the HTTP server for operators.
type OpsConfig struct {
	// Address to listen on, as host:port; port 0 takes a free one.
	Address string
	// Gatherer is what /metrics shows.
	Gatherer prometheus.Gatherer
	// Live answers /healthz: an error says that only a restart helps. Nil: always alive.
	Live func() error
	// Ready answers /readyz: an error says what is still missing. Nil: always ready.
	Ready func() error
}

// Ops serves /metrics, /healthz and /readyz.
type Ops struct {
	listener net.Listener
	server   *http.Server
}

// ListenOps binds the address, so that one in use is an error at once; Run serves.
func ListenOps(config OpsConfig) (*Ops, error) {
	listener, err := net.Listen("tcp", config.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics and probes on %q: %w; choose another with --metrics-address", config.Address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(config.Gatherer, promhttp.HandlerOpts{}))
	mux.Handle("GET /healthz", probe(config.Live))
	mux.Handle("GET /readyz", probe(config.Ready))
	return &Ops{listener: listener, server: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: opsHeaderTimeout,
		ReadTimeout:       opsRequestTimeout,
		WriteTimeout:      opsRequestTimeout,
	}}, nil
}

// Addr is the address that was bound.
func (o *Ops) Addr() net.Addr { return o.listener.Addr() }

// Run serves until ctx ends, lets requests under way finish for 2 s, and returns nil; any other end is an error.
func (o *Ops) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- o.server.Serve(o.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve metrics and probes on %s: %w", o.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), opsShutdownTimeout)
	defer cancel()
	if err := o.server.Shutdown(grace); err != nil {
		_ = o.server.Close() // requests outlived their grace: closing them is what was asked for
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("stop serving metrics and probes on %s: %w", o.Addr(), err)
	}
	return nil
}

func probe(check func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if check != nil {
			if err := check(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
}
