package controller

import (
	"errors"
	"math/big"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/pool"
)

type metrics struct {
	allocations *prometheus.CounterVec   // result, family
	duration    *prometheus.HistogramVec // queue
	leader      prometheus.Gauge
	queues      *kube.QueueMetrics
}

// newMetrics registers the metrics. Buckets of the duration are in seconds, from 100 µs (nothing to do) to 13 s.
func newMetrics(registry prometheus.Registerer, b *book, problems func() float64) (*metrics, error) {
	m := &metrics{
		allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_controller_allocations_total",
			Help: "Attempts to allocate an address, by result and family.",
		}, []string{"result", "family"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "fairlead_controller_reconcile_duration_seconds",
			Help:    "Seconds that making one object right took, requests to the API server included.",
			Buckets: prometheus.ExponentialBuckets(1e-4, 2, 18),
		}, []string{"queue"}),
		leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_controller_leader",
			Help: "1 while this replica is the one that works.",
		}),
	}
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fairlead_controller_waiting_services",
		Help: "Services and claims that wait for an address.",
	}, func() float64 { return float64(b.waitingCount()) })
	bad := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fairlead_controller_configmap_problems",
		Help: "Entries of ConfigMaps that are not as they are written.",
	}, problems)
	var errs []error
	for _, c := range []prometheus.Collector{m.allocations, m.duration, m.leader, waiting, bad, newPoolCollector(b)} {
		errs = append(errs, registry.Register(c))
	}
	queues, err := kube.NewQueueMetrics(registry, "fairlead_controller")
	m.queues = queues
	return m, errors.Join(append(errs, err)...)
}

// poolCollector shows the counts of the pools as they are when asked. A replica that has not begun to work has none.
type poolCollector struct {
	book      *book
	addresses *prometheus.Desc
}

func newPoolCollector(b *book) *poolCollector {
	return &poolCollector{book: b, addresses: prometheus.NewDesc("fairlead_pool_addresses",
		"Addresses of an IPPool: capacity, allocated, available.", []string{"pool", "family", "state"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.addresses }

// Collect implements prometheus.Collector. Counts above 2^53 are rounded, as metrics are.
func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	for name, families := range c.book.usage() {
		for family, u := range families {
			for state, n := range map[string]*big.Int{"capacity": u.Capacity, "allocated": u.Allocated, "available": u.Available} {
				value, _ := new(big.Float).SetInt(n).Float64()
				ch <- prometheus.MustNewConstMetric(c.addresses, prometheus.GaugeValue, value, name, string(family), state)
			}
		}
	}
}

// usage of all pools, by name and family.
func (b *book) usage() map[string]map[pool.Family]pool.Usage {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]map[pool.Family]pool.Usage{}
	for _, p := range b.pools {
		all[p.name()] = usageOf(p)
	}
	return all
}
