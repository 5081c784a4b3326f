package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// errLost is the end of a replica that lost its Lease. Its writes were safe meanwhile: each names what it is based on.
var errLost = errors.New("lost the leader election's Lease")

// lead waits to be elected and works while it leads. When ctx ends it stops the workers first and then gives the Lease back,
// so that the next leader begins when this one has written its last.
func (c *Controller) lead(ctx context.Context) error {
	var working sync.Once // done by whoever comes first: the work, or the end before any
	leading, stopLeading := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLeading()
	elector, err := c.elector(leaderelection.LeaderCallbacks{
		OnStartedLeading: func(elected context.Context) {
			working.Do(func() {
				both, stop := context.WithCancel(elected)
				defer stop()
				defer context.AfterFunc(ctx, stop)()
				c.work(both)
			})
		},
		OnStoppedLeading: func() {},
		OnNewLeader: func(identity string) {
			klog.FromContext(ctx).Info("Leader", "identity", identity, "this", identity == c.config.Election.Identity)
		},
	})
	if err != nil {
		return err
	}
	elected := make(chan struct{})
	go func() {
		defer close(elected)
		elector.Run(leading)
	}()
	select {
	case <-ctx.Done():
	case <-elected:
		err = errLost
	}
	working.Do(func() {}) // waits for the work to end, or keeps it from beginning
	stopLeading()
	<-elected
	return err
}

func (c *Controller) elector(callbacks leaderelection.LeaderCallbacks) (*leaderelection.LeaderElector, error) {
	e := c.config.Election
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name},
			Client:     e.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
		},
		Name:            e.Name,
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     retryPeriod,
		ReleaseOnCancel: true,
		WatchDog:        c.watchdog,
		Callbacks:       callbacks,
	})
	if err != nil {
		return nil, fmt.Errorf("set up leader election with Lease %s/%s: %w", e.Namespace, e.Name, err)
	}
	return elector, nil
}
