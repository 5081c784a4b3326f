package speaker

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/plan"
)

// outlives is by how much longer than the others wait the kernel keeps the VIPs of a speaker that restarts: who takes them over
// in the end has time to.
const outlives = 2 * time.Second

// nodeTimeout bounds the question what becomes of the node; without an answer it stays.
const nodeTimeout = time.Second

// stays reports whether the VIPs of this node are to stay when its speaker ends, for the next process to go on with: mostly it
// ends because it is replaced by another version. A node that is to be empty, or that the kubelet says is shutting down, gives
// them to others. They stay, too, where it ends before it knows what an earlier one left to it.
func (s *Speaker) stays(ctx context.Context) bool {
	status := s.elector.Status()
	if !status.Settled {
		return true
	}
	if s.config.HandOver || len(status.Hold) == 0 {
		return false
	}
	// What is watched may be a moment old, and who drains a node cordons it a moment before.
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	node, err := s.config.Clients.Core.CoreV1().Nodes().Get(ctx, s.config.Node, metav1.GetOptions{})
	if err != nil {
		return !apierrors.IsNotFound(err)
	}
	_, maintained := node.Labels[v1alpha1.LabelMaintenance]
	return kube.NodeReady(node) && !node.Spec.Unschedulable && !maintained && node.DeletionTimestamp == nil
}

// part ends this speaker's part: it leaves everything to the next process, or withdraws.
func (s *Speaker) part(ctx context.Context, stays bool) {
	ctx, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	logger, status := klog.FromContext(ctx), s.elector.Status()
	if !status.Settled {
		logger.Info("Ends before it took part: what an earlier speaker of this node left stays for the next")
		return
	}
	if !stays {
		s.withdraw(ctx)
		return
	}
	// Nothing of it may have been applied yet, where the next speaker of a node ends soon after it started.
	held := plan.Node(s.snapshot(s.watcher.VIPs(), s.machines(status), s.held(status))).State.Bindings
	// The write may take longer than the addresses live without a fence.
	if err := s.datapath.Leave(held, withdrawTimeout); err != nil {
		logger.Error(err, "Cannot prolong the lifetime of VIPs")
	}
	until, err := s.elector.Pause(ctx)
	if err != nil {
		logger.Error(err, "The others do not know that this speaker restarts; it withdraws")
		s.withdraw(ctx)
		return
	}
	left := until.Sub(election.BootTime())
	if err := s.datapath.Leave(held, left+outlives); err != nil {
		logger.Error(err, "Cannot prolong the lifetime of VIPs: they may be gone before the next speaker starts")
	}
	logger.Info("Left the VIPs to the next speaker of this node", "others wait for", left.Round(time.Second))
}

// withdraw ends announcing and hands the claims back, so that others need not wait for this speaker's heartbeat to age. What
// standbys have in the kernel stays for the next speaker of this node.
func (s *Speaker) withdraw(ctx context.Context) {
	logger := klog.FromContext(ctx)
	s.lease.Store(nil)
	result := plan.Node(s.snapshot(s.watcher.VIPs(), s.machines(election.Status{}), nil))
	if _, err := s.datapath.Apply(ctx, result.State, true); err != nil {
		logger.Error(err, "Cannot withdraw everything; lifetimes end what is left")
		return
	}
	if err := s.elector.Resign(ctx); err != nil {
		logger.Error(err, "Cannot hand back all claims; others take them when the heartbeat has aged")
	}
}
