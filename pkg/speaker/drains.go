package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/plan"
)

// countEvery is how often the connections of backends that drain are counted: their end is waited for by nobody.
const countEvery = time.Second

// drains knows which backends this node had until now, and since when which of them drain or are down, and finds out when the
// last connections of those that drain have ended. Nothing of it is kept over a restart: what the node had is read from the kernel, and the time of
// what drains begins anew.
type drains struct {
	servers  Servers
	notify   func()
	recorder Recorder
	metrics  *Metrics

	began   bool
	planned []model.Server // by the last plan, in order; before the first what the kernel has

	mu       sync.Mutex
	draining map[drainKey]*drain
}

// drainKey is a backend of a frontend.
type drainKey struct {
	frontend model.Frontend
	backend  netip.AddrPort
}

// drain is what is known of a backend that drains.
type drain struct {
	since       time.Time
	held        bool // it waits for their end, and this node announces the VIP: connections elsewhere it cannot count
	connections int  // when they were last counted
	empty       bool
}

func newDrains(config Config, notify func()) *drains {
	return &drains{
		servers: config.Kernel.Servers, notify: notify, recorder: config.Recorder, metrics: config.Metrics,
		draining: map[drainKey]*drain{},
	}
}

// begin reads what an earlier speaker of this node left. Only the reconciling goroutine calls it and what follows, to run.
func (d *drains) begin() error {
	if d.began {
		return nil
	}
	servers, err := d.servers.Servers()
	if err != nil {
		return err
	}
	d.planned, d.began = servers, true
	return nil
}

// drained is what the plan asks.
func (d *drains) drained(item plan.Drain) (since time.Duration, empty bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.draining[drainKey{item.Frontend, item.Backend}]
	if known == nil {
		return 0, false
	}
	return time.Since(known.since), known.empty
}

// follow takes over what the plan has draining, once that was applied, and tells of those whose time was over.
func (d *drains) follow(vips []*v1alpha1.VIP, bound []model.Binding, result plan.Result) {
	d.planned = result.State.Servers
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.draining) == 0 && len(result.Draining) == 0 {
		return
	}
	before := d.draining
	d.draining = make(map[drainKey]*drain, len(result.Draining))
	draining := 0
	for _, item := range result.Draining {
		key := drainKey{item.Frontend, item.Backend}
		known := before[key]
		if known == nil {
			known = &drain{since: time.Now()}
		}
		known.held = announces(bound, item.Frontend.Addr) && !item.Down
		d.draining[key] = known
		if !item.Down {
			draining++
		}
	}
	d.metrics.draining.Set(float64(draining))
	for _, item := range result.Overdue {
		if known := before[drainKey{item.Frontend, item.Backend}]; known != nil && known.held && known.connections > 0 {
			d.tell(vips, item, known.connections)
		}
	}
}

// tell makes an event of a backend that was removed with connections left.
func (d *drains) tell(vips []*v1alpha1.VIP, item plan.Drain, connections int) {
	address := item.Frontend.Addr.String()
	i := slices.IndexFunc(vips, func(vip *v1alpha1.VIP) bool { return vip.Spec.Address == address })
	if i < 0 {
		return
	}
	d.recorder.Event(vips[i], corev1.EventTypeWarning, v1alpha1.VIPReasonDrainEnded,
		fmt.Sprintf("%s was removed from port %d/%s with %d connections left: drainSeconds (%.0f) were over",
			item.Backend, item.Frontend.Port, item.Frontend.Proto, connections, item.Limit.Seconds()))
}

// run counts connections until the context ends.
func (d *drains) run(ctx context.Context) {
	ticker := time.NewTicker(countEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := d.count(); err != nil {
			klog.FromContext(ctx).Error(err, "Cannot tell whether backends have drained; their deadline ends that")
		}
	}
}

// count looks at the frontends in which something drains, and at no other.
func (d *drains) count() error {
	d.mu.Lock()
	frontends := map[model.Frontend]bool{}
	for key, drain := range d.draining {
		if drain.held && !drain.empty {
			frontends[key.frontend] = true
		}
	}
	d.mu.Unlock()
	for frontend := range frontends {
		counts, err := d.servers.Connections(frontend)
		if err != nil {
			return err
		}
		if d.note(frontend, counts) {
			d.notify()
		}
	}
	return nil
}

// note takes down what was counted, and reports whether a backend has ended its last connection.
func (d *drains) note(frontend model.Frontend, counts map[netip.AddrPort]int) (ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, drain := range d.draining {
		connections, there := counts[key.backend]
		if key.frontend != frontend || !there || !drain.held || drain.empty {
			continue
		}
		drain.connections = connections
		if connections == 0 {
			drain.empty, ended = true, true
		}
	}
	return ended
}
