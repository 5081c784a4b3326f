package gossip

import "github.com/prometheus/client_golang/prometheus"

// Metrics of a Gossip. A nil *Metrics counts nothing.
type Metrics struct {
	peers    *prometheus.GaugeVec
	verdicts *prometheus.CounterVec
	doubts   prometheus.Counter
}

// States of peers, as metrics show them.
const (
	labelAlive   = "alive"
	labelRefused = "refused"
	labelSilent  = "silent"
)

// NewMetrics registers the metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		peers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fairlead_speaker_gossip_peers",
			Help: "Other nodes' speakers by what gossip knows of them: alive, refused (the speaker ended, its node lives) or silent.",
		}, []string{"state"}),
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "fairlead_speaker_gossip_verdicts_total",
			Help: "Times that a peer was held dead, by reason: refused or silent.",
		}, []string{"reason"}),
		doubts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "fairlead_speaker_gossip_doubts_total",
			Help: "Probes that a peer answered although the membership held it dead or the watch had found it silent: the network loses or delays packets.",
		}),
	}
	for _, state := range []string{labelAlive, labelRefused, labelSilent} {
		m.peers.WithLabelValues(state)
	}
	for _, reason := range []string{labelRefused, labelSilent} {
		m.verdicts.WithLabelValues(reason)
	}
	registry.MustRegister(m.peers, m.verdicts, m.doubts)
	return m
}

func label(state State) string {
	switch {
	case state.Alive:
		return labelAlive
	case state.Refused:
		return labelRefused
	}
	return labelSilent
}

// probed counts a probe's effect.
func (m *Metrics) probed(before, after State) {
	switch {
	case m == nil:
	case before.Alive && after.Alive:
		m.doubts.Inc()
	case before.Alive:
		m.verdicts.WithLabelValues(label(after)).Inc()
	}
}

// count sets the gauges. Gossip.mu is held.
func (g *Gossip) count() {
	if g.config.Metrics == nil {
		return
	}
	counts := map[string]int{labelAlive: 0, labelRefused: 0, labelSilent: 0}
	for _, p := range g.peers {
		counts[label(p.state)]++
	}
	for state, number := range counts {
		g.config.Metrics.peers.WithLabelValues(state).Set(float64(number))
	}
}
