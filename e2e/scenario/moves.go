package scenario

import (
	"context"
	"encoding/json"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// Maintain puts a node into maintenance, so that its VIPs move away, or takes it out of it.
func (s *Scenario) Maintain(ctx context.Context, node string, maintained bool) error {
	var value any // null removes a label
	if maintained {
		value = "true"
	}
	return s.patchNode(ctx, node, map[string]any{"metadata": map[string]any{"labels": map[string]any{v1alpha1.LabelMaintenance: value}}})
}

// Cordon makes a node take no new pods, as kubectl cordon does, or take them again.
func (s *Scenario) Cordon(ctx context.Context, node string, cordoned bool) error {
	return s.patchNode(ctx, node, map[string]any{"spec": map[string]any{"unschedulable": cordoned}})
}

// ShutDown makes a node's kubelet say that the machine shuts down (KEP-2000), or that it is ready again.
func (s *Scenario) ShutDown(ctx context.Context, node string, down bool) error {
	condition := corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}
	if down {
		condition.Status, condition.Reason, condition.Message = corev1.ConditionFalse, "KubeletNotReady", "node is shutting down"
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{condition}}})
	if err != nil {
		return err
	}
	_, err = s.Core.CoreV1().Nodes().PatchStatus(ctx, node, patch)
	return err
}

func (s *Scenario) patchNode(ctx context.Context, node string, change map[string]any) error {
	patch, err := json.Marshal(change)
	if err != nil {
		return err
	}
	_, err = s.Core.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// MoveTo asks for a VIP to be on a node; an empty name ends that.
func (s *Scenario) MoveTo(ctx context.Context, addr netip.Addr, node string) error {
	var value any
	if node != "" {
		value = node
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationMoveTo: value}}})
	if err != nil {
		return err
	}
	_, err = s.Fairlead.FairleadV1alpha1().VIPs().Patch(ctx, source.VIPName(addr), types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
