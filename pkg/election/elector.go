package election

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Config of an Elector.
type Config struct {
	// Node is the name of this node.
	Node string
	// Namespace of the Leases.
	Namespace string
	// Client with a connection of its own, so that nothing queues in front of a renewal.
	Client kubernetes.Interface
	Timing Timing
	// Clock is BootTime outside tests.
	Clock func() Instant
	// Policy is Hold if empty.
	Policy Policy
	// Ask asks the peers whether the API server answers them: see SetReach. It must not block. May be nil.
	Ask func()
	// Reconnect is called when the API server answers a renewal again after it had not, and the watch has brought nothing meanwhile. It
	// must not block. May be nil.
	Reconnect func()
	// Watch is told after each decision whose silence to notice at once. It must not block. May be nil.
	Watch func(nodes []string)
	// Notify is called, from any goroutine, when what Status tells has changed.
	Notify func()
	// Transform trims Leases before they are kept; may be nil.
	Transform cache.TransformFunc
	// Metrics may be nil.
	Metrics *Metrics
}

// Elector keeps a speaker's heartbeat and claims.
type Elector struct {
	config Config
	leases coordinationclient.LeaseInterface
	kick   chan struct{}
	work   sync.WaitGroup

	mu        sync.Mutex
	view      View
	infos     map[string]Info
	renewed   map[string]Instant // when heartbeats of others were last seen to be renewed
	info      Info
	announced bool // SetInfo was called: this node may take part
	own       *coordinationv1.Lease
	objects   map[string]*coordinationv1.Lease // claims and heartbeats, by name
	deleted   map[string]uint64                // version at which this speaker deleted a Lease, until the watch tells
	wills     Wills
	successor Owner             // the epoch after this one, if a request is under way, or unanswered, that may have ended this one
	heirs     map[string]string // what heartbeats say of them, by node, as of the version in heeded
	heeded    map[string]uint64
	bound     map[string]bool // nil until the datapath reported
	busy      map[string]bool
	claiming  int                // how many of those are writes of claims
	claimed   Instant            // when the last of those ended
	giveUp    context.CancelFunc // ends the renewal under way
	failedAt  map[string]Instant
	heard     map[string]Instant // when another was first heard to announce what this speaker gave to it
	brought   Instant            // when the watch last told of anything
	settled   bool
	lapsed    bool // the right, at the last decision
	offered   bool // VIPs were set from a settled status
	alive     map[string]bool
	status    Status
}

// maxWrites bounds the writes of claims under way at once: a node that takes over thousands of VIPs shall not keep the API
// server from its own renewals. On HTTP/1.1 each has a connection, of which client-go keeps 25 (idleConnsPerHost in
// client-go/transport/cache.go): with more, one in four began with a TLS handshake.
const maxWrites = 16

// keyRenew is the key of the renewal among writes, keyInherit that of the claim of a VIP that this node has already; the others are
// called by the name of their Lease.
const (
	keyRenew   = "renew"
	keyInherit = "inherit"
)

// retryAfter is how long an API write that failed waits to be tried again.
const retryAfter = 250 * time.Millisecond

// pauseMost bounds the pause after a decision, which is as long as it took. A decision with 10,000 VIPs takes a tenth of that.
const pauseMost = 100 * time.Millisecond

// New makes an Elector.
func New(config Config) *Elector {
	e := &Elector{
		config:   config,
		leases:   config.Client.CoordinationV1().Leases(config.Namespace),
		kick:     make(chan struct{}, 1),
		infos:    map[string]Info{},
		renewed:  map[string]Instant{},
		objects:  map[string]*coordinationv1.Lease{},
		deleted:  map[string]uint64{},
		wills:    Wills{},
		heirs:    map[string]string{},
		heeded:   map[string]uint64{},
		busy:     map[string]bool{},
		failedAt: map[string]Instant{},
		heard:    map[string]Instant{},
	}
	e.view = View{
		Self: Owner{Node: config.Node}, Peers: map[string]Peer{}, Claims: map[string]Claim{},
		Policy: cmp.Or(config.Policy, Hold), Contested: map[string]bool{}, Handed: map[string]Instant{}, Dropped: map[string]string{}, Taken: map[Owner]Instant{},
	}
	return e
}

// Run takes part in the election until the context ends. It keeps its claims then: see Resign.
func (e *Elector) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(e.config.Client, 0, informers.WithNamespace(e.config.Namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = LabelLease }),
		informers.WithTransform(e.config.Transform))
	informer := factory.Coordination().V1().Leases().Informer()
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    e.watched,
		UpdateFunc: func(_, object any) { e.watched(object) },
		DeleteFunc: func(object any) { e.watchedDeletion(object) },
	})
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	factory.StartWithContext(watching)
	defer func() { stop(); factory.Shutdown() }()
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return ctx.Err()
	}
	for ctx.Err() == nil {
		started := time.Now()
		wake := e.step(ctx)
		// What the watch brings waits for the lock that step holds, one Lease after the other: it gets as much time as decisions,
		// or thousands of claims would be one decision each.
		sleep(ctx, nil, min(time.Since(started), pauseMost))
		sleep(ctx, e.kick, max(wake-time.Since(started), time.Millisecond))
	}
	e.work.Wait()
	return nil
}

// sleep returns after a time, a kick or the end of the context.
func sleep(ctx context.Context, kick <-chan struct{}, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-kick:
	case <-timer.C:
	}
}

// step decides, starts what was decided and returns how long to wait if nothing happens.
func (e *Elector) step(ctx context.Context) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.announced {
		return e.config.Timing.RenewEvery
	}
	now := e.config.Clock()
	e.forgetHanded(now)
	decision := Decide(now, e.config.Timing, e.view)
	e.tellOfLapse(ctx, now, decision)
	e.setHold(decision)
	if decision.Ask && e.config.Ask != nil {
		e.view.Asked = now
		e.config.Ask()
	}
	if e.config.Watch != nil {
		e.config.Watch(decision.Watch)
	}
	if !maps.Equal(e.alive, decision.Alive) {
		e.alive = decision.Alive
		e.config.Notify()
	}
	if e.view.Registered && !e.settled {
		e.settled = true
		e.config.Notify()
	}
	wake := decision.Wake.Sub(now)
	start := func(key string, write func(context.Context) error) {
		wake = min(wake, e.start(ctx, now, key, write))
	}
	if decision.Retry && e.busy[keyRenew] {
		e.giveUp()
	}
	if decision.Renew {
		start(keyRenew, func(ctx context.Context) error { return e.renew(ctx, decision.Bequeath) })
	}
	for _, revocation := range decision.Revoke {
		start(HeartbeatName(revocation.Node), func(ctx context.Context) error { return e.revoke(ctx, revocation) })
	}
	if !e.offered {
		decision.Claim = nil
	}
	for _, move := range decision.Inherit {
		e.view.Inherited = now
		seen := e.objects[ClaimName(move.VIP)]
		start(keyInherit, func(ctx context.Context) error { return e.claim(ctx, move, seen) })
	}
	for _, move := range slices.Concat(decision.Claim, decision.Hand) {
		seen := e.objects[ClaimName(move.VIP)]
		start(ClaimName(move.VIP), func(ctx context.Context) error { return e.claim(ctx, move, seen) })
	}
	for _, vip := range decision.Delete {
		if e.bound != nil && !e.bound[vip] {
			seen := e.objects[ClaimName(vip)]
			start(ClaimName(vip), func(ctx context.Context) error { return e.deleteClaim(ctx, vip, seen) })
		}
	}
	return wake
}

// start runs an API write unless one of the same key is under way or failed a moment ago, or too many claims are being written;
// it returns when to look again.
func (e *Elector) start(ctx context.Context, now Instant, key string, write func(context.Context) error) time.Duration {
	if e.busy[key] {
		return e.config.Timing.IdleRenewEvery
	}
	if failed, ok := e.failedAt[key]; ok {
		if wait := failed.Add(retryAfter).Sub(now); wait > 0 {
			return wait
		}
	}
	if isClaim(key) {
		if e.claiming == maxWrites {
			return e.config.Timing.IdleRenewEvery // until one of them ends: what is decided then is not out of date
		}
		e.claiming++
	}
	e.busy[key] = true
	// A request that takes longer than TSelf could give no right any more.
	limited, cancel := context.WithTimeout(ctx, e.config.Timing.TSelf)
	if key == keyRenew {
		e.view.Attempted, e.giveUp = now, cancel
	}
	e.work.Go(func() {
		err := write(limited)
		cancel()
		e.finish(ctx, key, now, err)
	})
	return e.config.Timing.IdleRenewEvery
}

func (e *Elector) finish(ctx context.Context, key string, started Instant, err error) {
	e.config.Metrics.wrote(key, err)
	e.mu.Lock()
	if key == keyRenew || strings.HasPrefix(key, heartbeatPrefix) {
		e.unanswered(started, err)
	}
	if err == nil || errors.Is(err, errLost) {
		e.view.Answered = e.config.Clock()
	}
	if isClaim(key) {
		e.claiming, e.claimed = e.claiming-1, e.config.Clock()
	}
	delete(e.busy, key)
	delete(e.failedAt, key)
	if err != nil {
		e.failedAt[key] = e.config.Clock()
	}
	e.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		if logger := klog.FromContext(ctx); errors.Is(err, errLost) {
			logger.V(2).Info("Another speaker was first", "lease", key)
		} else {
			logger.Error(err, "Cannot write Lease", "lease", key)
		}
	}
	e.wakeUp()
}

func (e *Elector) wakeUp() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// setHold stores what Decide allows and tells the speaker if it changed. It is called with the lock held.
func (e *Elector) setHold(decision Decision) {
	changed := !slices.Equal(e.status.Hold, decision.Hold) || !slices.Equal(e.status.Leaving, decision.Leaving)
	e.status.Hold, e.status.Leaving = decision.Hold, decision.Leaving
	e.status.Until, e.view.Until = decision.Until, decision.Until
	if changed {
		e.config.Notify()
	}
}

// SetVIPs tells which VIPs exist and who may hold them, in the order of their names, as found from a status. Nothing is
// claimed on the ground of one that was not settled: the other speakers were not known yet.
func (e *Elector) SetVIPs(vips []VIP, from Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if from.Settled && !e.offered {
		e.offered = true
		e.wakeUp()
	}
	seen := make(map[string]Instant, len(e.view.VIPs))
	for _, vip := range e.view.VIPs {
		seen[vip.Name] = vip.Seen
	}
	now := e.config.Clock()
	changed := len(vips) != len(e.view.VIPs)
	for i := range vips {
		vips[i].Seen = now
		if at, known := seen[vips[i].Name]; known {
			vips[i].Seen = at
		}
		changed = changed || !vips[i].equal(e.view.VIPs[i])
	}
	if changed {
		e.view.VIPs = vips
		e.wakeUp()
	}
}

// SetInfo tells what the other speakers shall know of this node. The first call makes this speaker take part.
func (e *Elector) SetInfo(info Info) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.announced && e.info.encode() == info.encode() {
		return
	}
	e.info, e.announced = info, true
	e.view.Attempted = 0
	e.wakeUp()
}

// SetBound tells which VIPs are bound on this node now: a claim is deleted only once its VIP is not.
func (e *Elector) SetBound(bound map[string]bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bound == nil || !maps.Equal(e.bound, bound) {
		e.bound = bound
		e.wakeUp()
	}
}
