package election

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// errLost says that another speaker's write came first: the watch brings what it wrote.
var errLost = errors.New("another speaker wrote the Lease first")

// renew writes this speaker's heartbeat. The right that it gives counts from before the request was sent. With a bequest it ends the
// epoch, gives some of its VIPs to others, and goes on with the rest under the next.
func (e *Elector) renew(ctx context.Context, bequest []Move) error {
	e.mu.Lock()
	own, self, registered, info := e.own, e.view.Self, e.view.Registered, e.info
	will := e.bequeath(bequest)
	if len(will.Heirs) > 0 {
		self = e.successor
	}
	if e.view.Ending {
		info = Info{} // no candidate any more
	}
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
	left := e.willsOf(own)
	written, err := e.writeHeartbeat(ctx, own, func(lease *coordinationv1.Lease) {
		if len(will.Heirs) > 0 {
			left[parseOwner(lease.Spec.HolderIdentity)] = will
			revoke(lease, self.Node, will.Reason)
		}
		heartbeat(lease, self, info, lasts, metav1.NowMicro())
		writeWills(lease, left)
	})
	if isLost(err) {
		return e.reread(ctx)
	}
	if err != nil {
		return fmt.Errorf("renew heartbeat: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answered(started)
	if known := e.objects[written.Name]; known == nil || version(known.ResourceVersion) < version(written.ResourceVersion) {
		e.objects[written.Name], e.own = written, written
	}
	if parseOwner(e.own.Spec.HolderIdentity) != self {
		return errLost // it was revoked since, and the watch was faster than this answer
	}
	e.heed(self.Node, e.own) // also of what an earlier process of this node had, before this one takes anything of it
	e.view.Self, e.view.Registered, e.successor = self, true, Owner{}
	e.view.Renewed = started
	clear(e.view.Contested)
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
	return newEpoch()
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
func (e *Elector) reread(ctx context.Context) error {
	found, err := e.leases.Get(ctx, HeartbeatName(e.config.Node), metav1.GetOptions{})
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case apierrors.IsNotFound(err):
		e.own = nil
	case err != nil:
		return fmt.Errorf("read heartbeat after a conflict: %w", err)
	default:
		e.objects[found.Name] = found
		e.heed(e.config.Node, found)
		if e.observeOwn(found); e.view.Registered {
			e.view.Attempted, e.successor = 0, Owner{}
			return nil
		}
		return errLost
	}
	if e.view.Registered {
		e.deregister()
	}
	return errLost
}

// revoke ends the epoch of a dead peer, if its heartbeat still has the version that was seen.
func (e *Elector) revoke(ctx context.Context, revocation Revocation) error {
	e.mu.Lock()
	seen := e.objects[HeartbeatName(revocation.Node)]
	e.mu.Unlock()
	if seen == nil || seen.ResourceVersion != revocation.Version {
		return errLost
	}
	lease := seen.DeepCopy()
	revoke(lease, e.config.Node, revocation.Reason)
	wills := e.willsOf(seen)
	if len(revocation.Heirs) > 0 {
		wills[revocation.Owner] = Will{Heirs: revocation.Heirs, Reason: revocation.Reason, Written: time.Now()}
	}
	if !wills.fit() {
		delete(wills, revocation.Owner)
	}
	writeWills(lease, wills)
	lease, err := e.leases.Update(ctx, lease, metav1.UpdateOptions{})
	if err == nil {
		klog.FromContext(ctx).Info("Revoked the epoch of another speaker: its VIPs go to others", "peer", revocation.Node,
			"epoch", revocation.Epoch, "reason", revocation.Reason, "vips", len(revocation.Heirs))
		return e.await(ctx, lease)
	}
	if !isLost(err) {
		return err
	}
	// It lives: the watch lags, as it does for up to half a minute after the API server was away. Or somebody else was first.
	found, err := e.leases.Get(ctx, seen.Name, metav1.GetOptions{})
	if err == nil && parseOwner(found.Spec.HolderIdentity) == revocation.Owner {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.observe(found)
	}
	return errLost
}

// claim writes a claim for this speaker, or for one that this one hands the VIP to, if nobody changed it since that was
// decided by the version seen (nil: there was none).
func (e *Elector) claim(ctx context.Context, move Move, seen *coordinationv1.Lease) error {
	e.mu.Lock()
	old := move.To.Node == e.config.Node && move.To != e.view.Self // decided by an epoch that was revoked since
	if e.objects[ClaimName(move.VIP)] != seen || !e.view.Registered || old || e.successor != (Owner{}) {
		e.mu.Unlock()
		return errLost
	}
	if move.To != e.view.Self {
		e.view.Handed[move.VIP] = e.config.Clock() // before the watch can tell of it
		delete(e.heard, move.VIP)
	}
	self, at, previous := e.view.Self, metav1.NowMicro(), e.view.Claims[move.VIP].Owner
	if holding := ReadClaim(seen, e.wills); holding.Owner == move.To { // by a will: what that says of it stays
		previous.Node, move.Reason, at = holding.Previous, holding.Reason, metav1.NewMicroTime(holding.Since)
	}
	e.mu.Unlock()
	lease := &coordinationv1.Lease{}
	if seen != nil {
		lease = seen.DeepCopy()
	}
	claim(lease, self, previous.Node, move, at)
	var err error
	if seen == nil {
		err = e.wrote(e.leases.Create(ctx, lease, metav1.CreateOptions{}))
	} else {
		err = e.wrote(e.leases.Update(ctx, lease, metav1.UpdateOptions{}))
	}
	if err == nil {
		klog.FromContext(ctx).V(4).Info("Wrote a claim", "vip", move.VIP, "for", move.To.Node, "reason", move.Reason)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && move.To == e.view.Self && e.successor == (Owner{}) { // else a bequest came after it
		delete(e.view.Handed, move.VIP)
	}
	return err
}

// wrote takes in the outcome of a write.
func (e *Elector) wrote(lease *coordinationv1.Lease, err error) error {
	if isLost(err) {
		return errLost
	}
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.observe(lease)
	return nil
}

// isLost reports whether a write came after another's.
func isLost(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

// deleteClaim removes a claim, if nobody changed it since that was decided by the version seen.
func (e *Elector) deleteClaim(ctx context.Context, vip string, seen *coordinationv1.Lease) error {
	e.mu.Lock()
	changed := e.objects[ClaimName(vip)] != seen
	if !changed && seen != nil {
		e.view.Dropped[vip] = seen.ResourceVersion
	}
	e.mu.Unlock()
	switch {
	case changed:
		return errLost
	case seen == nil:
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

// Pause tells the others to wait for the next process of this node, for as long as Timing.RestartGrace: after Run has
// returned, instead of Resign. It returns until when the claims are this node's, by its own clock.
func (e *Elector) Pause(ctx context.Context) (Instant, error) {
	e.mu.Lock()
	own, self, info, registered := e.own, e.view.Self, e.info, e.view.Registered
	e.mu.Unlock()
	if !registered || own == nil {
		return 0, errors.New("this speaker has no heartbeat")
	}
	started := e.config.Clock()
	write := func() error {
		_, err := e.writeHeartbeat(ctx, own, func(lease *coordinationv1.Lease) {
			heartbeat(lease, self, info, e.config.Timing.RestartGrace, metav1.NowMicro())
			restarting(lease, e.config.Timing.RestartGrace)
		})
		return err
	}
	err := write()
	if apierrors.IsConflict(err) { // the last renewal may have been written although Run ended before the answer
		if own, err = e.leases.Get(ctx, own.Name, metav1.GetOptions{}); err == nil && parseOwner(own.Spec.HolderIdentity) != self {
			err = errLost
		}
		if err == nil {
			err = write()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("tell the others that this speaker restarts: %w", err)
	}
	return started.Add(e.config.Timing.RestartGrace), nil
}

// Resign deletes this speaker's claims and heartbeat, so that others need not wait: after Run has returned and the datapath
// let everything go. Claims that others may have by a bequest that was not answered it leaves.
func (e *Elector) Resign(ctx context.Context) error {
	e.mu.Lock()
	var mine []*coordinationv1.Lease
	for vip, claim := range e.view.Claims {
		if claim.Owner == e.view.Self && e.view.Registered && e.successor == (Owner{}) {
			mine = append(mine, e.objects[ClaimName(vip)])
		}
	}
	own := e.own
	e.mu.Unlock()

	var failed []error
	var mu sync.Mutex
	var work sync.WaitGroup
	slots := make(chan struct{}, maxWrites)
	for _, lease := range mine {
		work.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := e.delete(ctx, lease); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("release claim %s: %w", lease.Name, err))
			}
		})
	}
	work.Wait()
	if err := e.endHeartbeat(ctx, own); err != nil {
		failed = append(failed, fmt.Errorf("end heartbeat of node %s: %w", e.config.Node, err))
	}
	return errors.Join(failed...)
}

// endHeartbeat deletes this speaker's heartbeat, or only empties it while others have VIPs by what it says.
func (e *Elector) endHeartbeat(ctx context.Context, own *coordinationv1.Lease) error {
	if own == nil {
		return nil
	}
	left := e.willsOf(own)
	if len(left) == 0 {
		return e.delete(ctx, own)
	}
	lease := own.DeepCopy()
	revoke(lease, e.config.Node, fmt.Sprintf("the speaker of node %s ended", e.config.Node))
	writeWills(lease, left)
	_, err := e.leases.Update(ctx, lease, metav1.UpdateOptions{})
	return err
}
