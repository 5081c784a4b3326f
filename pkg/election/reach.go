package election

import (
	"context"
	"errors"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SetReach tells what the speakers' own network knows of the peers, by node.
func (e *Elector) SetReach(reach map[string]Reach) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.view.Reach == nil || !maps.Equal(e.view.Reach, reach) {
		e.view.Reach = reach
		e.wakeUp()
	}
}

// HasAPI asks the API server for this speaker's heartbeat and reports whether it answered.
func (e *Elector) HasAPI(ctx context.Context) bool {
	started := e.config.Clock()
	_, err := e.leases.Get(ctx, HeartbeatName(e.config.Node), metav1.GetOptions{})
	answered := err == nil || apierrors.IsNotFound(err)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !answered {
		e.view.Failed = max(e.view.Failed, started)
		e.wakeUp()
	}
	return answered
}

// unanswered notes that the API server did not answer a renewal or revocation. The lock is held.
func (e *Elector) unanswered(started Instant, err error) {
	if err != nil && !errors.Is(err, errLost) {
		e.view.Failed = max(e.view.Failed, started)
	}
}

// answered notes that the API server answered a renewal. The lock is held.
func (e *Elector) answered(started Instant) {
	if e.view.Failed > e.view.Renewed && started > e.view.Failed {
		e.view.Resumed = e.config.Clock()
	}
}

// Announced tells that somebody else announces a VIP. If the API server does not answer this speaker, that may be the next
// holder. And if this node gave it away HandLeast ago or more, every neighbour has heard that by now: who asked this node
// for it again after an announcement would be left without an answer until the next.
func (e *Elector) Announced(vip string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.view.Failed > e.view.Renewed && !e.view.Contested[vip] {
		e.view.Contested[vip] = true
		e.wakeUp()
	}
	asked, given := e.view.Handed[vip]
	if given && e.view.Claims[vip].Owner != e.view.Self && e.config.Clock() >= asked.Add(e.config.Timing.HandLeast) {
		delete(e.view.Handed, vip)
		e.wakeUp()
	}
}

// End makes this speaker give all its VIPs to others. It has when Status holds none.
func (e *Elector) End() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.view.Ending, e.view.Attempted = true, 0
	e.wakeUp()
}
