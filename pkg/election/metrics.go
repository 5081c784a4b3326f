package election

import (
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics of an Elector. A nil *Metrics counts nothing.
type Metrics struct {
	writes      *prometheus.CounterVec
	revocations prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_speaker_lease_writes_total",
			Help: "Writes of Leases, by kind (renew, heartbeat: revoking another's, claim, inherit: a claim for what it has by a revocation) and result (ok, lost, error).",
		}, []string{"kind", "result"}),
		revocations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_speaker_revoked_total",
			Help: "Times that this speaker's heartbeat was revoked by another or deleted.",
		}),
	}
	registry.MustRegister(m.writes, m.revocations)
	return m
}

func (m *Metrics) wrote(key string, err error) {
	if m == nil {
		return
	}
	kind, result := key, "ok"
	switch {
	case isClaim(key):
		kind = KindClaim
	case strings.HasPrefix(key, heartbeatPrefix):
		kind = KindHeartbeat
	}
	switch {
	case errors.Is(err, errLost):
		result = "lost"
	case err != nil:
		result = "error"
	}
	m.writes.WithLabelValues(kind, result).Inc()
}

func (m *Metrics) revoked() {
	if m != nil {
		m.revocations.Inc()
	}
}
