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
	"github.com/fairlead/fairlead/pkg/source"
)

// look is all that the report of a VIP is made of.
type look struct {
	vip    *v1alpha1.VIP
	part   *plan.Part
	on     string // the interface that it is announced on
	failed string
	alone  string // why no node can hold it, if this one is to say so
	// conflict tells of other hosts that use the address; refused: it is not bound for them.
	conflict string
	refused  bool
}

// report tells of the VIPs that this speaker holds, and, if no living speaker's name comes before its own, of those that nobody
// can hold. Of a VIP about which nothing changed it has told.
func (s *Speaker) report(vips []*v1alpha1.VIP, status election.Status, candidates []plan.Candidacy, result plan.Result, outcome Outcome) {
	r := s.reporter
	first := status.Settled && slices.Min(slices.Collect(maps.Keys(status.Speakers))) == s.config.Node
	conflicting := s.conflicts.any()
	on := model.Same(r.bound, outcome.Bound) && slices.Equal(r.leaving, status.Leaving)
	same := first == r.first && !r.failed && len(outcome.Failed) == 0 && model.Same(r.candidates, candidates) && on &&
		!conflicting && !r.conflicting
	r.conflicting = conflicting
	if !on {
		r.bound, r.leaving, r.on = outcome.Bound, status.Leaving, make(map[netip.Addr]string, len(outcome.Bound))
		for _, binding := range outcome.Bound {
			r.on[binding.Addr] = binding.Interface
		}
		for _, name := range status.Leaving { // the other one tells of these
			if addr, err := source.ParseVIPName(name); err == nil {
				delete(r.on, addr)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, vip := range vips {
		part := result.Parts[i]
		known := same && i < len(r.vips) && r.vips[i] == vip && r.parts[i] == part
		if known || len(part.State.VIPs) == 0 {
			continue
		}
		addr := part.State.VIPs[0]
		now := look{vip: vip, part: part, on: r.on[addr]}
		failed := outcome.Failed[addr]
		if failed != nil {
			now.failed = failed.Error()
		}
		if now.on == "" && first && len(candidates[i].Nodes) == 0 {
			now.alone = cmp.Or(candidates[i].String(), "the cluster has no nodes")
		}
		now.conflict, now.refused = s.conflicts.message(addr)
		if r.looks[vip.Name] != now {
			r.looks[vip.Name] = now
			s.warn(vip, cmp.Or(part.Problem, failed))
			r.take(now)
		}
	}
	if len(r.looks) > len(vips) {
		r.forget(vips)
	}
	r.vips, r.parts, r.first, r.candidates, r.failed = vips, result.Parts, first, candidates, len(outcome.Failed) > 0
	if len(r.todo) > 0 {
		poke(r.kick)
	}
}

// take notes what is to be told of a VIP now. The caller holds mu.
func (r *reporter) take(now look) {
	vip, before := now.vip, r.reports[now.vip.Name]
	report := kube.VIPReport{Services: services(vip), Backends: now.part.Backends.String(), Conflict: now.conflict}
	switch {
	case now.on != "":
		report.Node, report.Interface = r.config.Node, now.on
		report.Reason = v1alpha1.VIPReasonAnnounced
		report.Message = fmt.Sprintf("node %s announces it on %s", r.config.Node, now.on)
	case now.refused:
		report.Reason, report.Message = v1alpha1.VIPReasonConflict, now.conflict
	case now.alone != "":
		report.Reason = v1alpha1.VIPReasonNoCandidate
		report.Message = "no node can hold it: " + now.alone
	default:
		delete(r.reports, vip.Name)
		return
	}
	r.reports[vip.Name] = report
	if before != report || !told(vip, report) {
		r.todo[vip.Name] = true
	}
}

// forget drops what is known of VIPs that are gone. The caller holds mu.
func (r *reporter) forget(vips []*v1alpha1.VIP) {
	for name := range r.looks {
		if _, exists := slices.BinarySearchFunc(vips, name, byName); !exists {
			delete(r.looks, name)
			delete(r.reports, name)
			delete(r.warned, name)
		}
	}
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

const (
	// statusWriters is how many statuses are written at once, statusRate how many a second once statusBurst were. They are for people:
	// a node that takes over hundreds of VIPs, and those who have to notice whether it lives, have better use for an API server and
	// processors.
	statusWriters = 8
	statusRate    = 50
	statusBurst   = 50
	// yieldMost is how long statuses wait for claims, which are looked at every yieldStep: a node that takes over hundreds of
	// VIPs has better things to ask of the API server, and everybody else better things to hear of.
	yieldMost = 5 * time.Second
	yieldStep = 20 * time.Millisecond
)

// reporter writes the status of VIPs in the background: the datapath never waits for the API server.
type reporter struct {
	config   Config
	watcher  *kube.Watcher
	claiming func() bool // whether this node claims VIPs now
	pace     kube.Pace
	kick     chan struct{}

	// Of the reconciling goroutine: what was last reported on.
	warned     map[string]string // by VIP, as are the looks
	looks      map[string]look
	vips       []*v1alpha1.VIP
	parts      []*plan.Part
	candidates []plan.Candidacy
	first      bool
	failed     bool // something did
	// conflicting says that there was something to tell of other hosts.
	conflicting bool
	bound       []model.Binding
	leaving     []string
	on          map[netip.Addr]string // the interface of each that is bound

	mu      sync.Mutex
	reports map[string]kube.VIPReport
	todo    map[string]bool
}

func newReporter(config Config, watcher *kube.Watcher, claiming func() bool) *reporter {
	return &reporter{
		config: config, watcher: watcher, claiming: claiming, kick: make(chan struct{}, 1),
		pace:   kube.NewPace(statusRate, statusBurst),
		warned: map[string]string{}, looks: map[string]look{}, reports: map[string]kube.VIPReport{}, todo: map[string]bool{},
	}
}

// told reports whether the status that the watch last brought says what the report says of the holder.
func told(vip *v1alpha1.VIP, report kube.VIPReport) bool {
	return vip.Status.Node == report.Node && vip.Status.Backends == report.Backends
}

// run writes until the context ends.
func (r *reporter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.kick:
		}
		r.yield(ctx)
		if !r.writeAll(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(retryAfter):
				poke(r.kick)
			}
		}
	}
}

// yield waits while claims are written.
func (r *reporter) yield(ctx context.Context) {
	for until := time.Now().Add(yieldMost); r.claiming() && time.Now().Before(until) && ctx.Err() == nil; {
		time.Sleep(yieldStep)
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
		if r.pace.Wait(ctx) != nil {
			break // it ends
		}
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

// write writes the status of a VIP. One that another node announced before, or none, is an event too.
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
	if err := kube.WriteVIPStatus(ctx, r.config.Clients.Fairlead, vip, report); err != nil {
		return err
	}
	if report.Node != "" && vip.Status.Node != report.Node {
		r.config.Recorder.Event(vip, corev1.EventTypeNormal, report.Reason, report.Message)
	}
	return nil
}
