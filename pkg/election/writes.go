package election

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// errLost says that another speaker's write came first: the watch brings what it wrote.
var errLost = errors.New("another speaker wrote the Lease first")

// renew writes this speaker's heartbeat. The right that it gives counts from before the request was sent.
func (e *Elector) renew(ctx context.Context) error {
	e.mu.Lock()
	own, self, registered, info := e.own, e.view.Self, e.view.Registered, e.info
	lasts := e.config.Timing.IdleExpiry
	if _, owns := claimsByNode(e.view.Claims)[self.Node]; owns {
		lasts = e.config.Timing.TTake
	}
	e.mu.Unlock()

	started := e.config.Clock()
	if own == nil {
		found, err := e.leases.Get(ctx, HeartbeatName(self.Node), metav1.GetOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("read heartbeat: %w", err)
		}
		if err == nil {
			own = found
		}
	}
	if !registered {
		self.Epoch = e.nextEpoch(own)
	}
	written, err := e.writeHeartbeat(ctx, own, func(lease *coordinationv1.Lease) {
		heartbeat(lease, self, info, lasts, metav1.NowMicro())
	})
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return e.reread(ctx, self)
	}
	if err != nil {
		return fmt.Errorf("renew heartbeat: %w", err)
	}
	e.mu.Lock()
	e.objects[written.Name], e.own = written, written
	e.view.Self, e.view.Registered, e.view.Renewed = self, true, started
	e.mu.Unlock()
	return nil
}

// nextEpoch goes on with the epoch that an earlier process of this node left unrevoked: its claims are this one's, and so is
// what it left in the kernel. Else it begins a new one.
func (e *Elector) nextEpoch(own *coordinationv1.Lease) string {
	if own != nil {
		if owner := parseOwner(own.Spec.HolderIdentity); owner.Node == e.config.Node && owner.Epoch != "" {
			return owner.Epoch
		}
	}
	return rand.Text()[:10]
}

func (e *Elector) writeHeartbeat(ctx context.Context, own *coordinationv1.Lease, fill func(*coordinationv1.Lease)) (*coordinationv1.Lease, error) {
	if own == nil {
		lease := &coordinationv1.Lease{}
		fill(lease)
		return e.leases.Create(ctx, lease, metav1.CreateOptions{})
	}
	lease := own.DeepCopy()
	fill(lease)
	return e.leases.Update(ctx, lease, metav1.UpdateOptions{})
}

// reread finds out why a renewal met another version: the write of a request that timed out, or a revocation.
func (e *Elector) reread(ctx context.Context, self Owner) error {
	found, err := e.leases.Get(ctx, HeartbeatName(self.Node), metav1.GetOptions{})
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case apierrors.IsNotFound(err):
		e.own = nil
	case err != nil:
		return fmt.Errorf("read heartbeat after a conflict: %w", err)
	default:
		e.own, e.objects[found.Name] = found, found
		if parseOwner(found.Spec.HolderIdentity) == self {
			e.view.Attempted = 0
			return nil
		}
	}
	if e.view.Registered {
		e.deregister()
	}
	return errLost
}

// revoke ends the epoch of a dead peer, if its heartbeat still has the version that was seen.
func (e *Elector) revoke(ctx context.Context, peer Peer) error {
	e.mu.Lock()
	seen := e.objects[HeartbeatName(peer.Node)]
	e.mu.Unlock()
	if seen == nil || seen.ResourceVersion != peer.Version {
		return errLost
	}
	lease := seen.DeepCopy()
	revoke(lease, e.config.Node)
	return e.wrote(e.leases.Update(ctx, lease, metav1.UpdateOptions{}))
}

// claim writes this speaker's claim, if nobody changed it meanwhile.
func (e *Elector) claim(ctx context.Context, vip string) error {
	e.mu.Lock()
	seen, self := e.objects[ClaimName(vip)], e.view.Self
	e.mu.Unlock()
	if seen == nil {
		lease := &coordinationv1.Lease{}
		claim(lease, vip, self, metav1.NowMicro())
		return e.wrote(e.leases.Create(ctx, lease, metav1.CreateOptions{}))
	}
	lease := seen.DeepCopy()
	claim(lease, vip, self, metav1.NowMicro())
	return e.wrote(e.leases.Update(ctx, lease, metav1.UpdateOptions{}))
}

// wrote takes in the outcome of a write.
func (e *Elector) wrote(lease *coordinationv1.Lease, err error) error {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		return errLost
	}
	if err != nil {
		return err
	}
	e.observe(lease)
	return nil
}

// deleteClaim removes a claim that was seen.
func (e *Elector) deleteClaim(ctx context.Context, vip string) error {
	e.mu.Lock()
	seen := e.objects[ClaimName(vip)]
	e.mu.Unlock()
	if seen == nil {
		return nil
	}
	return e.delete(ctx, seen)
}

func (e *Elector) delete(ctx context.Context, seen *coordinationv1.Lease) error {
	err := e.leases.Delete(ctx, seen.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &seen.UID, ResourceVersion: &seen.ResourceVersion},
	})
	if apierrors.IsConflict(err) {
		return errLost
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deleted[seen.Name] = version(seen.ResourceVersion)
	e.observeDeletion(seen)
	return nil
}

// Resign deletes this speaker's claims and heartbeat, so that others need not wait: after Run has returned and the datapath
// let everything go.
func (e *Elector) Resign(ctx context.Context) error {
	e.mu.Lock()
	var mine []*coordinationv1.Lease
	for vip, claim := range e.view.Claims {
		if claim.Owner == e.view.Self && e.view.Registered {
			mine = append(mine, e.objects[ClaimName(vip)])
		}
	}
	own := e.own
	e.mu.Unlock()

	var failed []error
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, lease := range mine {
		work.Go(func() {
			e.slots <- struct{}{}
			defer func() { <-e.slots }()
			if err := e.delete(ctx, lease); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("release claim %s: %w", lease.Name, err))
			}
		})
	}
	work.Wait()
	if own != nil {
		if err := e.delete(ctx, own); err != nil {
			failed = append(failed, fmt.Errorf("delete heartbeat %s: %w", own.Name, err))
		}
	}
	return errors.Join(failed...)
}
