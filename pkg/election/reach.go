package election

import (
	"context"
	"errors"
	"fmt"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
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
	if answered {
		e.view.Answered = e.config.Clock()
	} else {
		e.view.Failed = max(e.view.Failed, started)
		e.wakeUp()
	}
	return answered
}

// Spares is that of View.
func (e *Elector) Spares(node string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.view.Spares(node, e.config.Timing)
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
		// If the watch told of something, the network was there, and the server is slow: that has enough to do.
		if e.config.Reconnect != nil && e.brought < e.view.Failed {
			e.config.Reconnect()
		}
	}
}

// Announced tells that somebody else announces a VIP. If the API server does not answer this speaker, that may be the next
// holder. And if this node gave it away and first heard that HandLeast ago or more, every neighbour has heard it by now: who asked
// this node for it again after an announcement would be left without an answer until the next.
func (e *Elector) Announced(vip string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.view.Failed > e.view.Renewed && !e.view.Contested[vip] {
		e.view.Contested[vip] = true
		klog.Background().Info("Another host announces a VIP while the API server does not answer: it is let go", "node", e.config.Node, "vip", vip)
		e.wakeUp()
	}
	_, given := e.view.Handed[vip]
	if owner := e.view.Claims[vip].Owner; given && owner != e.view.Self {
		now := e.config.Clock()
		e.view.Taken[owner] = now
		if first, before := e.heard[vip]; !before {
			e.heard[vip] = now
		} else if now >= first.Add(e.config.Timing.HandLeast) {
			delete(e.view.Handed, vip)
			e.wakeUp()
		}
	}
}

// tellOfLapse says in the log why this node lets its VIPs go when its right ends. The lock is held.
func (e *Elector) tellOfLapse(ctx context.Context, now Instant, decision Decision) {
	lapsed := e.view.Registered && now >= decision.Until
	if lapsed && !e.lapsed && len(e.status.Hold) > 0 {
		peers := map[string]string{}
		for node, reach := range e.view.Reach {
			peers[node] = reach.say(now)
		}
		klog.FromContext(ctx).Info("Lets its VIPs go: the API server did not confirm its right in time, nor did the peers' answers",
			"vips", len(e.status.Hold), "renewed", now.Sub(e.view.Renewed).String()+" ago", "peers", peers)
	}
	e.lapsed = lapsed
}

// say tells what is known of a peer.
func (r Reach) say(now Instant) string {
	switch {
	case !r.Alive:
		return fmt.Sprintf("held dead for %v", now.Sub(r.Dead))
	case r.Said == 0:
		return "alive, never asked after the API server"
	case r.HasAPI:
		return fmt.Sprintf("alive, has the API server, asked %v ago", now.Sub(r.Said))
	default:
		return fmt.Sprintf("alive, lacks the API server, asked %v ago", now.Sub(r.Said))
	}
}

// End makes this speaker give all its VIPs to others. It has when Status holds none.
func (e *Elector) End() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.view.Ending, e.view.Attempted = true, 0
	e.wakeUp()
}
