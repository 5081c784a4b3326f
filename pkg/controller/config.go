package controller

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"github.com/fairlead/fairlead/pkg/generated/clientset/versioned"
	"github.com/fairlead/fairlead/pkg/source"
)

// Defaults of Config.
const (
	// DefaultWorkers is how many Services are worked on at once: enough to keep 200 requests a second under way where the
	// API server answers in 40 ms.
	DefaultWorkers = 8
	// DefaultResync is how often every Service is looked at without cause, in case an event was missed. It writes nothing
	// where nothing changed.
	DefaultResync = 10 * time.Minute
)

// Lengths of the leader election: client-go's defaults for components (k8s.io/component-base config v1alpha1
// RecommendedDefaultLeaderElectionConfiguration). A leader that was killed is replaced after LeaseDuration, plus at most 1.2
// RetryPeriods until a standby looks.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// Config of a Controller.
type Config struct {
	// Core and Fairlead are the clients.
	Core     kubernetes.Interface
	Fairlead versioned.Interface
	// Recorder takes events about Services and IPPools.
	Recorder record.EventRecorder
	// Registry takes the metrics.
	Registry prometheus.Registerer
	// Rules tell which Services are ours.
	Rules source.Rules
	// ConfigMaps map addresses to Services.
	ConfigMaps []ConfigMapSource
	// GossipSecret names the Secret of the speakers' key, to be made where there is none. Empty: it is not made.
	GossipSecret types.NamespacedName
	// Workers is how many Services are worked on at once.
	Workers int
	// Resync is how often every Service is looked at without cause.
	Resync time.Duration
	// Election makes this one of several replicas. Nil: the only one.
	Election *Election
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Election configures the Lease by which replicas agree on one that works.
type Election struct {
	// Client should not share its rate limit with Config.Core: a renewal must not queue behind 10,000 allocations.
	Client kubernetes.Interface
	// Namespace and Name of the Lease.
	Namespace, Name string
	// Identity of this replica: unlike that of any other, a former one of the same host too.
	Identity string
}

// Defaults fills what is zero.
func (c *Config) Defaults() {
	if c.Workers == 0 {
		c.Workers = DefaultWorkers
	}
	if c.Resync == 0 {
		c.Resync = DefaultResync
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Validate names what is missing or cannot work.
func (c *Config) Validate() error {
	switch {
	case c.Core == nil, c.Fairlead == nil, c.Recorder == nil, c.Registry == nil:
		return errors.New("controller: clients, recorder and registry are required")
	case c.Rules.Class == "" && !c.Rules.Classless:
		return errors.New("no load balancer class and Services without a class excluded: no Service would be served")
	case c.Workers < 1:
		return fmt.Errorf("workers %d: must be at least 1", c.Workers)
	case c.Resync < time.Second:
		return fmt.Errorf("resync %s: must be at least 1s", c.Resync)
	case c.Election != nil && (c.Election.Client == nil || c.Election.Namespace == "" || c.Election.Name == "" || c.Election.Identity == ""):
		return errors.New("leader election: client, namespace, name and identity are required")
	}
	return nil
}
