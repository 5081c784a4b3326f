package speaker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/plan"
)

// reports says what this speaker tells of which VIPs: those that it holds, and, if no living speaker's name comes before its
// own, those that nobody can hold.
func (s *Speaker) reports(vips []*v1alpha1.VIP, status election.Status, candidates []plan.Candidacy, result plan.Result,
	outcome Outcome) map[string]kube.VIPReport {
	bound := make(map[netip.Addr]model.Binding, len(outcome.Bound))
	for _, binding := range outcome.Bound {
		bound[binding.Addr] = binding
	}
	first := status.Settled && slices.Min(slices.Collect(maps.Keys(status.Speakers))) == s.config.Node
	reports := map[string]kube.VIPReport{}
	for i, vip := range vips {
		addr, err := netip.ParseAddr(vip.Spec.Address)
		if err != nil {
			continue
		}
		report := kube.VIPReport{Services: services(vip), Backends: result.Backends[vip.Name].String()}
		s.warn(vip, cmp.Or(result.Problems[vip.Name], outcome.Failed[addr]))
		if binding, holds := bound[addr]; holds {
			report.Node, report.Interface = s.config.Node, binding.Interface
			report.Reason = v1alpha1.VIPReasonAnnounced
			report.Message = fmt.Sprintf("node %s announces it on %s", s.config.Node, binding.Interface)
		} else if first && len(candidates[i].Nodes) == 0 {
			report.Reason = v1alpha1.VIPReasonNoCandidate
			report.Message = "no node can hold it: " + cmp.Or(candidates[i].String(), "the cluster has no nodes")
		} else {
			continue
		}
		reports[vip.Name] = report
	}
	return reports
}

// warn makes an event of what keeps this node from serving a VIP, once for each text.
func (s *Speaker) warn(vip *v1alpha1.VIP, problem error) {
	if problem == nil {
		delete(s.reporter.warned, vip.Name)
		return
	}
	if text := problem.Error(); s.reporter.warned[vip.Name] != text {
		s.reporter.warned[vip.Name] = text
		s.config.Recorder.Event(vip, corev1.EventTypeWarning, v1alpha1.VIPReasonFailed,
			fmt.Sprintf("node %s: %s", s.config.Node, text))
	}
}

// services lists the Services of a VIP's frontends, each once.
func services(vip *v1alpha1.VIP) string {
	var names []string
	for _, frontend := range vip.Spec.Frontends {
		names = append(names, frontend.Service.Namespace+"/"+frontend.Service.Name)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// statusWriters is how many statuses are written at once.
const statusWriters = 8

// reporter writes the status of VIPs in the background: the datapath never waits for the API server.
type reporter struct {
	config  Config
	watcher *kube.Watcher
	kick    chan struct{}
	warned  map[string]string // by VIP, used by the reconciling goroutine only

	mu      sync.Mutex
	reports map[string]kube.VIPReport
	todo    map[string]bool
}

func newReporter(config Config, watcher *kube.Watcher) *reporter {
	return &reporter{
		config: config, watcher: watcher, kick: make(chan struct{}, 1),
		warned: map[string]string{}, reports: map[string]kube.VIPReport{}, todo: map[string]bool{},
	}
}

// report takes what is to be told now. A VIP that this node began to announce is an event too.
func (r *reporter) report(vips []*v1alpha1.VIP, reports map[string]kube.VIPReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, vip := range vips {
		report, tells := reports[vip.Name]
		if !tells {
			continue
		}
		before := r.reports[vip.Name]
		if before != report || !told(vip, report) {
			r.todo[vip.Name] = true
		}
		if report.Node != "" && before.Node == "" {
			r.config.Recorder.Event(vip, corev1.EventTypeNormal, report.Reason, report.Message)
		}
	}
	r.reports = reports
	if len(r.todo) > 0 {
		r.wakeUp()
	}
}

// told reports whether the status that the watch last brought says what the report says of the holder.
func told(vip *v1alpha1.VIP, report kube.VIPReport) bool {
	return vip.Status.Node == report.Node && vip.Status.Backends == report.Backends
}

func (r *reporter) wakeUp() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// run writes until the context ends.
func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.kick:
		}
		if !r.writeAll(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryAfter):
				r.wakeUp()
			}
		}
	}
}

// writeAll writes what is to be written and reports whether all of it was.
func (r *reporter) writeAll(ctx context.Context) bool {
	r.mu.Lock()
	todo := r.todo
	r.todo = map[string]bool{}
	r.mu.Unlock()
	var work sync.WaitGroup
	slots := make(chan struct{}, statusWriters)
	for name := range todo {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			if err := r.write(ctx, name); err != nil && ctx.Err() == nil {
				klog.FromContext(ctx).Error(err, "Cannot tell the state of a VIP")
				r.mu.Lock()
				r.todo[name] = true
				r.mu.Unlock()
			}
		})
	}
	work.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.todo) == 0
}

func (r *reporter) write(ctx context.Context, name string) error {
	r.mu.Lock()
	report, tells := r.reports[name]
	r.mu.Unlock()
	if !tells {
		return nil // it moved away meanwhile
	}
	vip := r.watcher.VIP(name)
	if vip == nil {
		return nil // it is gone
	}
	return kube.WriteVIPStatus(ctx, r.config.Clients.Fairlead, vip, report)
}
