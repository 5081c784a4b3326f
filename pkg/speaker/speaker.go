// Package speaker runs on every node: it watches VIPs, EndpointSlices, Nodes and Leases, takes part in the election of each
// VIP's holder, and makes the node's kernel what the plan says, in the order of effects.
//
// It orchestrates and decides nothing itself: who holds a VIP is for election, whether backends answer for health, what a
// node should have for plan, and every kind of kernel state for the package that owns it. It never looks at Services or
// pools: the VIP object says it all.
package speaker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/gossip"
	"github.com/fairlead/fairlead/pkg/health"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/plan"
	"github.com/fairlead/fairlead/pkg/source"
)

const (
	// fenceEvery is how often lifetimes of bound VIPs are prolonged: often enough that a stall of a second does not
	// cost a VIP whose right lasts 3 s.
	fenceEvery = 500 * time.Millisecond
	// resyncEvery is how often the whole kernel state is compared with the plan although nothing changed. Up to resyncJitter of
	// it is added: speakers that start together would else do so together for ever.
	resyncEvery  = 30 * time.Second
	resyncJitter = 0.5
	// gatherFor is how long a change waits for others, so that they share one transaction.
	gatherFor = 20 * time.Millisecond
	// retryAfter is how long a failed Apply waits to be tried again.
	retryAfter = time.Second
	// handOverLimit is how long one that ends works on until other nodes have its VIPs. With withdrawTimeout it is less than the
	// pod's termination grace period (manifests/base/speaker.yaml).
	handOverLimit = 20 * time.Second
	// withdrawTimeout bounds the orderly end: the kernel's fence does the same within seconds.
	withdrawTimeout = 5 * time.Second
)

// Recorder makes events: record.EventRecorder of client-go does.
type Recorder interface {
	Event(object runtime.Object, kind, reason, message string)
}

// Config of a Speaker.
type Config struct {
	Node      string
	Namespace string // of the Leases
	Clients   *kube.Clients
	// LeaseClients have a connection of their own.
	LeaseClients *kube.Clients
	Recorder     Recorder
	Kernel       Kernel
	// Isolated says that the kernel is that of an Isolated.
	Isolated bool
	// WatchInterfaces calls back after interfaces or addresses changed, until the context ends.
	WatchInterfaces func(ctx context.Context, notify func())
	Timing          election.Timing
	// Policy says what becomes of VIPs that this node holds while the API server does not answer.
	Policy election.Policy
	// HandOver makes a speaker that is told to end give its VIPs to others, as one does on a node that is to be empty, instead
	// of leaving them to the next process of this node.
	HandOver        bool
	Metrics         *Metrics
	ElectionMetrics *election.Metrics
	// Gossip, if there is any, runs beside the election.
	Gossip *gossip.Gossip
}

// reconnect brings watches up to date after a disturbance. Until then this node would not know what it inherits.
func (c Config) reconnect() {
	c.Clients.Reconnect()
	c.LeaseClients.Reconnect()
}

// Speaker is the agent of one node.
type Speaker struct {
	config   Config
	watcher  *kube.Watcher
	elector  *election.Elector
	planner  plan.Planner // of the reconciling goroutine
	datapath *Datapath
	reporter *reporter
	checks   *checks
	ports    *nodeHealth
	drains   *drains
	blame    *blame
	kick     chan struct{}
	refresh  chan struct{} // asks fence to look at once
	applied  chan struct{} // tells divert that VIPs may have been bound

	conflicts *conflicts

	interfacesChanged atomic.Bool
	distrust          atomic.Bool // the kernel is to be read anew
	doubt             atomic.Bool // its IPVS services are
	interfaces        []model.Interface
	unfit             []string
	known             known
	began             bool
	again             time.Duration // after which the last plan is to be made again; 0: not by itself
	lease             atomic.Pointer[lease]
	ready             atomic.Bool
}

// New makes a Speaker. Nothing is sent or changed yet. The announcer in the kernel asks MayAnnounce, and tells Seen.
func New(config Config) (*Speaker, error) {
	s := &Speaker{config: config, ports: newNodeHealth(), kick: make(chan struct{}, 1), refresh: make(chan struct{}, 1), applied: make(chan struct{}, 1)}
	s.interfacesChanged.Store(true)
	watcher, err := kube.NewWatcher(config.Clients, s.Notify)
	if err != nil {
		return nil, err
	}
	s.watcher = watcher
	s.elector = election.New(election.Config{
		Node: config.Node, Namespace: config.Namespace, Client: config.LeaseClients.Core, Timing: config.Timing, Policy: config.Policy,
		Ask: config.ask(), Reconnect: config.reconnect, Watch: config.watch(), Clock: election.BootTime, Notify: s.Notify,
		Transform: kube.StripManagedFields, Metrics: config.ElectionMetrics,
	})
	s.datapath = NewDatapath(config.Kernel, s.right)
	s.reporter = newReporter(config, watcher, s.elector.Claiming)
	s.blame = newBlame(config, watcher.Nodes)
	s.checks = newChecks(config, health.New(health.Config{Notify: s.Notify, Observe: config.Metrics.checked}))
	s.drains = newDrains(config, s.Notify)
	s.conflicts = newConflicts(config, s.Notify)
	return s, nil
}

// Notify asks for a look at everything soon. It does not block.
func (s *Speaker) Notify() { poke(s.kick) }

// changedInterfaces has interfaces and addresses read again, and VIPs that somebody took off bound again.
func (s *Speaker) changedInterfaces() {
	s.interfacesChanged.Store(true)
	poke(s.refresh)
	s.Notify()
}

func poke(kick chan struct{}) {
	select {
	case kick <- struct{}{}:
	default:
	}
}

// Ready returns nil once this speaker takes part in the election with its datapath in place.
func (s *Speaker) Ready() error {
	if !s.ready.Load() {
		return fmt.Errorf("the speaker of node %s has not taken part in the election yet: see its log", s.config.Node)
	}
	return nil
}

// Run works until the context ends, and until it has parted with what it announced then: see part.
func (s *Speaker) Run(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if err := s.watcher.Start(working); err != nil {
		return err
	}
	var work sync.WaitGroup
	failed := make(chan error, 2)
	work.Go(func() {
		if err := s.elector.Run(working); err != nil && working.Err() == nil {
			failed <- fmt.Errorf("take part in the election: %w", err)
		}
	})
	defer s.gossip(ctx, failed)()
	work.Go(func() { s.config.WatchInterfaces(working, s.changedInterfaces) })
	work.Go(func() { s.config.Kernel.Announcer.Run(working) })
	work.Go(func() { s.fence(working) })
	work.Go(func() { s.divert(working) })
	work.Go(func() { s.look(working) })
	work.Go(func() { wait.JitterUntilWithContext(working, s.resync, resyncEvery, resyncJitter, true) })
	work.Go(func() { s.reporter.run(working) })
	work.Go(func() { s.checks.checker.Run(working) })
	work.Go(func() { s.ports.run(working) })
	work.Go(func() { s.drains.run(working) })
	work.Go(func() { s.conflicts.run(working) })
	stays, err := s.loop(working, ctx.Done(), failed)
	stop()
	work.Wait()
	s.watcher.Wait()
	s.part(context.WithoutCancel(ctx), stays)
	return err
}

// loop works until ended is closed. Then what this node holds stays, or it works on until other nodes have it.
func (s *Speaker) loop(ctx context.Context, ended <-chan struct{}, failed <-chan error) (stays bool, err error) {
	var late <-chan time.Time
	retry := time.NewTimer(0)
	defer retry.Stop()
	again := time.NewTimer(retryAfter)
	defer again.Stop()
	for {
		select {
		case <-ended:
			if s.stays(ctx) {
				return true, nil
			}
			s.elector.End()
			ended, late = nil, time.After(handOverLimit)
		case <-late:
			return false, nil
		case err := <-failed:
			return false, err
		case <-s.kick:
			s.gather(ctx)
		case <-retry.C:
		case <-again.C:
		}
		if s.distrust.Swap(false) {
			s.datapath.Distrust()
		}
		if s.doubt.Swap(false) {
			s.datapath.Doubt()
		}
		if err := s.reconcile(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "The node's state is not all as wanted; trying again", "after", retryAfter)
			retry.Reset(retryAfter)
		}
		if again.Stop(); s.again > 0 {
			again.Reset(s.again)
		}
		if ended == nil && len(s.elector.Status().Hold) == 0 {
			return false, nil
		}
	}
}

// gather waits a moment for what comes along with a change: both addresses of a Service, the slices of its endpoints.
func (s *Speaker) gather(ctx context.Context) {
	timer := time.NewTimer(gatherFor)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	select {
	case <-s.kick:
	default:
	}
}

// reconcile looks at everything once and makes it so.
func (s *Speaker) reconcile(ctx context.Context) error {
	started := time.Now()
	if err := s.readInterfaces(); err != nil {
		return err
	}
	vips := s.watcher.VIPs()
	status := s.elector.Status()
	machines := s.machines(status)
	candidates := s.planner.Candidates(vips, machines, s.watcher.EndpointSlices)
	s.offer(vips, candidates, status)
	if !s.began {
		// The heartbeat goes on at once, so that what an earlier process of this node held stays here. Without
		// interfaces the others place nothing on this node before its datapath stands.
		s.began = true
		s.elector.SetInfo(election.Info{})
	}

	if err := s.drains.begin(); err != nil {
		return err
	}
	result := s.planner.Node(s.snapshot(vips, machines, s.held(status)))
	s.again = result.Again
	s.conflicts.follow(status)
	admitted, err := s.conflicts.admit(vips, result.State.Bindings)
	if err != nil {
		return err
	}
	result.State.Bindings = admitted
	s.setHeld(result.State.Bindings, status.Leaving)
	outcome, err := s.datapath.Apply(ctx, result.State, status.Settled)
	poke(s.applied)
	if outcome.Again > 0 && (s.again == 0 || outcome.Again < s.again) {
		s.again = outcome.Again
	}
	if outcome.Writes > 0 {
		klog.FromContext(ctx).V(2).Info("Applied", "writes", outcome.Writes, "held", len(outcome.Bound), "took", time.Since(started))
	}
	s.drains.follow(vips, outcome.Bound, result)
	s.checks.follow(result)
	s.ports.follow(result)
	s.blame.tell(ctx, outcome.Repairs)
	s.takePart(outcome)
	s.report(vips, status, candidates, result, outcome)
	s.checks.tell(vips, outcome.Bound, result)
	s.config.Metrics.reconciled(time.Since(started), outcome, result, err)
	s.ready.Store(status.Settled)
	return err
}

func (s *Speaker) readInterfaces() error {
	if !s.interfacesChanged.Swap(false) {
		return nil
	}
	found, err := s.config.Kernel.Addresses.Interfaces()
	if err != nil {
		s.interfacesChanged.Store(true)
		return err
	}
	interfaces := []model.Interface{}
	for _, item := range found {
		if item.Up {
			interfaces = append(interfaces, model.Interface{Name: item.Name, Prefixes: item.Prefixes, MAC: item.MAC.String()})
		}
	}
	s.interfaces = interfaces
	s.datapath.DoubtAddresses()
	return nil
}

// offer tells the election which VIPs there are.
func (s *Speaker) offer(vips []*v1alpha1.VIP, candidates []plan.Candidacy, status election.Status) {
	k := &s.known
	if k.settled == status.Settled && model.Same(k.candidates, candidates) && model.Same(k.vips, vips) {
		return
	}
	k.settled, k.candidates, k.vips = status.Settled, candidates, vips
	out := make([]election.VIP, 0, len(vips))
	for i, vip := range vips {
		out = append(out, election.VIP{
			Name: vip.Name, Candidates: candidates[i].Nodes, Weights: candidates[i].Weights,
			Leave: candidates[i].Excluded[s.config.Node], MoveTo: vip.Annotations[v1alpha1.AnnotationMoveTo],
		})
	}
	s.elector.SetVIPs(out, status)
}

// takePart tells the others about this node after the datapath was applied: what it can carry and what it failed at.
func (s *Speaker) takePart(outcome Outcome) {
	if k := &s.known; !k.tookPart || !model.Same(k.bound, outcome.Bound) || k.failed || len(outcome.Failed) > 0 {
		k.tookPart, k.bound, k.failed = true, outcome.Bound, len(outcome.Failed) > 0
		names, unfit := make(map[string]bool, len(outcome.Bound)), []string(nil)
		for _, binding := range outcome.Bound {
			names[source.VIPName(binding.Addr)] = true
		}
		for addr := range outcome.Failed {
			if name := source.VIPName(addr); !names[name] && s.watcher.VIP(name) != nil {
				unfit = append(unfit, name)
			}
		}
		if slices.Sort(unfit); !slices.Equal(s.unfit, unfit) {
			s.unfit = unfit
			s.Notify()
		}
		s.elector.SetBound(names)
	}
	s.elector.SetInfo(election.Info{Interfaces: s.interfaces, Unfit: s.unfit})
}
