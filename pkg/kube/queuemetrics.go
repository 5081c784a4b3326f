package kube

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

// QueueMetrics shows work queues as Prometheus metrics with the label "queue". It is a workqueue.MetricsProvider.
type QueueMetrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	latency, work              *prometheus.HistogramVec
}

var _ workqueue.MetricsProvider = (*QueueMetrics)(nil)

// queueBuckets are in seconds: from 10 µs, a reconcile that changes nothing, to 10 s, an API server in trouble.
func queueBuckets() []float64 { return prometheus.ExponentialBuckets(1e-5, 10, 7) }

// NewQueueMetrics registers the metrics with registry as <prefix>_queue_…, for example fairlead_controller_queue_depth.
func NewQueueMetrics(registry prometheus.Registerer, prefix string) (*QueueMetrics, error) {
	label := []string{"queue"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prefix + "_queue_" + name, Help: help}, label)
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "_queue_" + name, Help: help}, label)
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		opts := prometheus.HistogramOpts{Name: prefix + "_queue_" + name, Help: help, Buckets: queueBuckets()}
		return prometheus.NewHistogramVec(opts, label)
	}
	m := &QueueMetrics{
		depth:      gauge("depth", "Items that wait to be worked on."),
		unfinished: gauge("unfinished_work_seconds", "Seconds that items now worked on have taken so far, summed."),
		longest:    gauge("longest_running_processor_seconds", "Seconds that the longest of the items now worked on has taken."),
		adds:       counter("adds_total", "Items added."),
		retries:    counter("retries_total", "Items added again because working on them failed."),
		latency:    histogram("wait_duration_seconds", "Seconds that an item waited in the queue."),
		work:       histogram("work_duration_seconds", "Seconds that working on an item took."),
	}
	for _, c := range []prometheus.Collector{m.depth, m.unfinished, m.longest, m.adds, m.retries, m.latency, m.work} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// NewDepthMetric implements workqueue.MetricsProvider.
func (m *QueueMetrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return m.depth.WithLabelValues(name)
}

// NewAddsMetric implements workqueue.MetricsProvider.
func (m *QueueMetrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return m.adds.WithLabelValues(name)
}

// NewLatencyMetric implements workqueue.MetricsProvider.
func (m *QueueMetrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return m.latency.WithLabelValues(name)
}

// NewWorkDurationMetric implements workqueue.MetricsProvider.
func (m *QueueMetrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return m.work.WithLabelValues(name)
}

// NewUnfinishedWorkSecondsMetric implements workqueue.MetricsProvider.
func (m *QueueMetrics) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.unfinished.WithLabelValues(name)
}

// NewLongestRunningProcessorSecondsMetric implements workqueue.MetricsProvider.
func (m *QueueMetrics) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.longest.WithLabelValues(name)
}

// NewRetriesMetric implements workqueue.MetricsProvider.
func (m *QueueMetrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return m.retries.WithLabelValues(name)
}
