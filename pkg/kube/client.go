package kube

import (
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/connrotation"

	"github.com/fairlead/fairlead/pkg/generated/clientset/versioned"
)

// Requests a second, and how many may be sent at once after a pause, unless flags say otherwise. client-go's own 5 and 10
// would make the 10th Service of a burst wait for seconds; the API server's priority and fairness protects it.
const (
	DefaultQPS   = 200
	DefaultBurst = 400
)

// ClientConfig says how to reach the API server.
type ClientConfig struct {
	// Kubeconfig is the path of a kubeconfig file. Empty: the ServiceAccount of the pod.
	Kubeconfig string
	// QPS and Burst limit requests to the API server (requests a second; requests at once).
	QPS   float32
	Burst int
	// UserAgent by which the API server's logs name this client.
	UserAgent string
}

// AddFlags adds --kubeconfig, --kube-api-qps and --kube-api-burst; values set before are the flags' defaults.
func (c *ClientConfig) AddFlags(flags *pflag.FlagSet) {
	c.Defaults()
	flags.StringVar(&c.Kubeconfig, "kubeconfig", c.Kubeconfig,
		"path of a kubeconfig file; empty: the ServiceAccount of the pod that this runs in")
	flags.Float32Var(&c.QPS, "kube-api-qps", c.QPS, "requests a second to the API server, on average")
	flags.IntVar(&c.Burst, "kube-api-burst", c.Burst, "requests to the API server at once")
}

// Defaults fills what is zero.
func (c *ClientConfig) Defaults() {
	if c.QPS == 0 {
		c.QPS = DefaultQPS
	}
	if c.Burst == 0 {
		c.Burst = DefaultBurst
	}
}

// Validate names the first value that cannot work.
func (c *ClientConfig) Validate() error {
	if c.QPS <= 0 {
		return fmt.Errorf("--kube-api-qps=%v: must be above 0, for example %d", c.QPS, DefaultQPS)
	}
	if c.Burst < 1 {
		return fmt.Errorf("--kube-api-burst=%d: must be at least 1, for example %d", c.Burst, DefaultBurst)
	}
	return nil
}

// RESTConfig is the client-go configuration: the kubeconfig's current context, or the pod's ServiceAccount.
func (c *ClientConfig) RESTConfig() (*rest.Config, error) {
	var (
		config *rest.Config
		err    error
	)
	if c.Kubeconfig == "" {
		if config, err = rest.InClusterConfig(); err != nil {
			return nil, fmt.Errorf("read the pod's ServiceAccount: %w; outside a pod pass --kubeconfig=FILE", err)
		}
	} else {
		rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: c.Kubeconfig}
		config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig=%s: %w", c.Kubeconfig, err)
		}
	}
	config.QPS, config.Burst = c.QPS, c.Burst
	if c.UserAgent != "" {
		config.UserAgent = c.UserAgent
	} else {
		config.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	return config, nil
}

// Clients are the two typed clients. They share connections and one rate limit.
type Clients struct {
	Core     kubernetes.Interface
	Fairlead versioned.Interface

	connections *connrotation.ConnectionTracker // nil: fakes
}

// Reconnect closes all connections to the API server: watches go on from where they were on others, requests under way fail. It is
// for the end of a disturbance of the network: what the API server sent meanwhile it sends again only when TCP's timer says so, which
// had time to grow to as long as the disturbance was (RFC 6298, section 5.5), and on HTTP/2 all else queues behind that.
func (c *Clients) Reconnect() {
	if c.connections != nil {
		c.connections.CloseAll()
	}
}

// NewClients makes both clients from config. Built-in types travel as protobuf, ours as JSON. No other clients share their connections:
// client-go lets clients of equal configuration do that, but these have a dialer of their own. Nothing is sent yet.
func NewClients(config *rest.Config) (*Clients, error) {
	config = rest.CopyConfig(config)
	if config.RateLimiter == nil {
		config.RateLimiter = newRateLimiter(config.QPS, config.Burst)
	}
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext
	}
	dialer := connrotation.NewDialer(config.Dial)
	config.Dial = dialer.DialContext
	http, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", config.Host, err)
	}
	core := rest.CopyConfig(config)
	core.ContentType = runtime.ContentTypeProtobuf
	core.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	coreClient, err := kubernetes.NewForConfigAndClient(core, http)
	if err != nil {
		return nil, fmt.Errorf("make the client of built-in types for %s: %w", config.Host, err)
	}
	client, err := versioned.NewForConfigAndClient(config, http)
	if err != nil {
		return nil, fmt.Errorf("make the client of fairlead.dev types for %s: %w", config.Host, err)
	}
	return &Clients{Core: coreClient, Fairlead: client, connections: dialer.ConnectionTracker}, nil
}

// dialTimeout is longer than any renewal of a Lease is worth waiting for.
const dialTimeout = 5 * time.Second

// NewLeaseClients makes clients for Leases, which share neither a connection nor a rate limit with any other: renewals must
// not queue behind anything.
func NewLeaseClients(config *rest.Config) (*Clients, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	// On a connection of HTTP/2 a request that got no answer leaves the next ones waiting too, until the connection is found
	// dead half a minute later.
	config.NextProtos = []string{"http/1.1"}
	return NewClients(config)
}
