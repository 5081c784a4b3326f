package tests

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/kube"
)

// gatherFor is how long a speaker waits for more after the election told it of a change.
const gatherFor = 20 * time.Millisecond

// elector is what a speaker has of package election, with a datapath that binds and lets go at once.
type elector struct {
	*election.Elector
	kick chan struct{}
	vips atomic.Pointer[[]election.VIP]
	end  func()
}

var _ candidate = (*elector)(nil)

// enterElectors starts speakers, and gives them the VIPs once all of them know each other.
func enterElectors(l *apiLoad) {
	var electors []*elector
	var nodes []string
	for i := range l.speakers {
		node := fmt.Sprintf("speaker-%d", i+1)
		e := newElector(l, node)
		nodes, electors, l.candidates = append(nodes, node), append(electors, e), append(l.candidates, e)
	}
	must(l.B, scenario.Until(within(context.Background(), l.B), func() error {
		for _, e := range electors {
			if known := len(e.Status().Speakers); known < l.speakers {
				return fmt.Errorf("a speaker knows %d of %d", known, l.speakers)
			}
		}
		return nil
	}))
	vips := make([]election.VIP, l.vips)
	for i := range vips {
		vips[i] = election.VIP{Name: fmt.Sprintf("10.96.%03d.%03d", i>>8, i&0xff), Candidates: nodes}
	}
	for _, e := range electors {
		own := slices.Clone(vips)
		e.vips.Store(&own)
		e.notify()
	}
}

func newElector(l *apiLoad, node string) *elector {
	clients, err := kube.NewLeaseClients(l.config)
	must(l.B, err)
	e := &elector{kick: make(chan struct{}, 1)}
	e.vips.Store(new([]election.VIP))
	e.Elector = election.New(election.Config{
		Node: node, Namespace: l.namespace, Client: clients.Core, Timing: election.DefaultTiming(), Clock: election.BootTime,
		Notify: e.notify,
		Transform: func(object any) (any, error) {
			l.traffic.events.Add(1)
			return kube.StripManagedFields(object)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := e.Run(ctx); err != nil && ctx.Err() == nil {
			l.Errorf("elector of %s: %v", node, err)
		}
	})
	work.Go(func() { e.work(ctx) })
	e.end = func() { cancel(); work.Wait() }
	e.SetInfo(election.Info{})
	return e
}

func (e *elector) notify() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// work does what a speaker does about its part of the election.
func (e *elector) work(ctx context.Context) {
	var offered *[]election.VIP
	settled := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.kick:
			time.Sleep(gatherFor)
		}
		status := e.Status()
		if vips := e.vips.Load(); vips != offered || status.Settled != settled {
			offered, settled = vips, status.Settled
			e.SetVIPs(slices.Clone(*vips), status)
		}
		bound := make(map[string]bool, len(status.Hold))
		for _, name := range status.Hold {
			bound[name] = true
		}
		e.SetBound(bound)
	}
}

func (e *elector) holds() int { return len(e.Status().Hold) }

func (e *elector) die() { e.end() }

// leader takes part in an election of client-go for each VIP.
type leader struct {
	held atomic.Int64
	end  func()
}

var _ candidate = (*leader)(nil)

// enterLeaders starts candidates of client-go's leaderelection with the durations that it is configured by.
func enterLeaders(lease, deadline, retry time.Duration) func(*apiLoad) {
	return func(l *apiLoad) {
		for i := range l.speakers {
			c := &leader{}
			config := leaderelection.LeaderElectionConfig{LeaseDuration: lease, RenewDeadline: deadline, RetryPeriod: retry}
			must(l.B, c.start(l, fmt.Sprintf("speaker-%d", i+1), config))
			l.candidates = append(l.candidates, c)
		}
	}
}

// start begins to take part. Who loses a VIP begins anew, as a process that ends for that is started again.
func (c *leader) start(l *apiLoad, name string, config leaderelection.LeaderElectionConfig) error {
	own := rest.CopyConfig(l.config)
	own.QPS = -1                           // as many requests as it wants to send
	own.Dial = (&net.Dialer{}).DialContext // on a connection that it shares with nobody
	clients, err := kube.NewClients(own)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(klog.NewContext(context.Background(), klog.Logger{})) // without a log of each attempt
	var work sync.WaitGroup
	c.end = func() { cancel(); work.Wait() }
	config.Callbacks = leaderelection.LeaderCallbacks{
		OnStartedLeading: func(leading context.Context) {
			c.held.Add(1)
			<-leading.Done()
			c.held.Add(-1)
			if ctx.Err() == nil {
				l.lost.Add(1)
			}
		},
		OnStoppedLeading: func() {},
	}
	for i := range l.vips {
		own := config
		own.Lock = &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: fmt.Sprintf("vip-%d", i)},
			Client:    clients.Core.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		}
		elector, err := leaderelection.NewLeaderElector(own)
		if err != nil {
			cancel()
			return err
		}
		work.Go(func() {
			for ctx.Err() == nil {
				elector.Run(ctx)
			}
		})
	}
	return nil
}

func (c *leader) holds() int { return int(c.held.Load()) }

func (c *leader) die() { c.end() }
