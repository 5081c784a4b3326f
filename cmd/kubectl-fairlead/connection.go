package main

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/pkg/kube"
)

// connection is how commands reach the cluster: by the kubeconfig and the flags that kubectl knows.
type connection struct {
	rules     *clientcmd.ClientConfigLoadingRules
	overrides clientcmd.ConfigOverrides
	// system is the namespace of the speakers' Leases.
	system string

	clients *kube.Clients
	// namespace of Services that are named without one.
	namespace string
	// ahead is by how much the API server's clock is ahead of this one, a time.Duration.
	ahead atomic.Int64
}

// addFlags adds the flags to those of a command, of which one is run.
func (c *connection) addFlags(flags *pflag.FlagSet) {
	if c.rules == nil {
		c.rules = clientcmd.NewDefaultClientConfigLoadingRules()
	}
	flags.StringVar(&c.rules.ExplicitPath, clientcmd.RecommendedConfigPathFlag, "", "path of the kubeconfig file")
	clientcmd.BindOverrideFlags(&c.overrides, flags, clientcmd.RecommendedConfigOverrideFlags(""))
	flags.StringVar(&c.system, "system-namespace", "fairlead-system", "namespace that Fairlead runs in")
}

// connect makes the clients.
func (c *connection) connect() error {
	if c.clients != nil {
		return nil
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(c.rules, &c.overrides)
	namespace, _, err := loader.Namespace()
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config, err := loader.ClientConfig()
	if err != nil {
		return fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = kube.DefaultQPS, kube.DefaultBurst
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &dated{next, c} })
	c.namespace = namespace
	c.clients, err = kube.NewClients(config)
	return err
}

// now is the time by the API server's clock, to the second. What it recorded is not measured by the clock of this machine.
func (c *connection) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// dated notes what time it is at the API server (RFC 9110 section 6.6.1).
type dated struct {
	next http.RoundTripper
	to   *connection
}

func (d *dated) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := d.next.RoundTrip(request)
	if err == nil {
		if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
			d.to.ahead.Store(int64(time.Until(date)))
		}
	}
	return response, err
}
