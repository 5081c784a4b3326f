package speaker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/plan"
)

// Metrics of a Speaker.
type Metrics struct {
	seconds  prometheus.Histogram
	failures prometheus.Counter
	writes   prometheus.Counter
	repairs  *prometheus.CounterVec
	held     prometheus.Gauge
	servers  prometheus.Gauge
	checks   *prometheus.CounterVec
	late     prometheus.Histogram
	down     prometheus.Gauge
	short    prometheus.Gauge
	draining prometheus.Gauge

	conflicts prometheus.Counter
	contested prometheus.Gauge
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_speaker_reconcile_seconds", Help: "Time to compute the node's state and to apply it.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_speaker_reconcile_failures_total", Help: "Times that something could not be made as wanted.",
		}),
		writes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_speaker_kernel_writes_total",
			Help: "Changes made to sysctls, nftables, IPVS and addresses; none while nothing changes.",
		}),
		repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_speaker_repairs_total",
			Help: "Times that somebody else had undone what this speaker did, by layer: sysctls, nftables, ipvs or addresses.",
		}, []string{"layer"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_speaker_vips_held", Help: "VIPs that this node holds and announces.",
		}),
		servers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_speaker_frontends", Help: "Frontends in this node's IPVS, as holder or standby.",
		}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_speaker_health_checks_total", Help: "Health checks of backends that this node made, by result: ok or failed.",
		}, []string{"result"}),
		late: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "fairlead_speaker_health_check_lateness_seconds", Help: "How much later than planned health checks started.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		down: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_speaker_backends_down", Help: "Backends of VIPs that are down by this node's health checks.",
		}),
		short: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_speaker_frontends_without_quorum", Help: "Frontends with fewer backends up than their quorum.",
		}),
		draining: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_speaker_backends_draining", Help: "Backends that get no new connections and keep those they have.",
		}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_speaker_address_conflicts_total",
			Help: "Times that a host outside the cluster was found to use a VIP that this node holds or is to hold.",
		}),
		contested: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fairlead_speaker_address_conflicts",
			Help: "VIPs that this node holds, or is to hold, and that a host outside the cluster uses.",
		}),
	}
	for _, layer := range layers {
		m.repairs.WithLabelValues(string(layer))
	}
	registry.MustRegister(m.seconds, m.failures, m.writes, m.repairs, m.held, m.servers, m.checks, m.late, m.down, m.short, m.draining,
		m.conflicts, m.contested)
	return m
}

// checked counts a health check. Several goroutines call it.
func (m *Metrics) checked(_ model.Target, late time.Duration, err error) {
	m.late.Observe(late.Seconds())
	if err != nil {
		m.checks.WithLabelValues("failed").Inc()
		return
	}
	m.checks.WithLabelValues("ok").Inc()
}

func (m *Metrics) reconciled(took time.Duration, outcome Outcome, result plan.Result, err error) {
	m.seconds.Observe(took.Seconds())
	m.writes.Add(float64(outcome.Writes))
	m.held.Set(float64(len(outcome.Bound)))
	m.servers.Set(float64(len(result.State.Servers)))
	if err != nil {
		m.failures.Inc()
	}
}
