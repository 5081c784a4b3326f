package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/generated/clientset/versioned"
)

// VIPReport is what a speaker tells of a VIP.
type VIPReport struct {
	// Node and Interface that hold the VIP, empty while nobody does.
	Node, Interface string
	Services        string
	Backends        string
	// Reason and Message of the condition Held, which is True if Node is set.
	Reason, Message string
	// Conflict says which hosts outside the cluster use the address, empty if none does: the message of the condition
	// AddressConflict.
	Conflict string
}

// WriteVIPStatus makes the status of a VIP say what the report says; it writes nothing if it does already. The time since
// when a node holds the VIP changes with the node only. If somebody else wrote first the VIP is read again: conditions are one
// list, and those that the controller writes must not be those of an older version.
func WriteVIPStatus(ctx context.Context, client versioned.Interface, vip *v1alpha1.VIP, report VIPReport) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		err := writeVIPStatus(ctx, client, vip, report)
		if !apierrors.IsConflict(err) {
			return err
		}
		newer, getErr := client.FairleadV1alpha1().VIPs().Get(ctx, vip.Name, metav1.GetOptions{})
		if getErr != nil {
			return getErr
		}
		if newer.UID != vip.UID {
			return nil // another object by the same name, of which the watch will tell
		}
		vip = newer
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of VIP %s: %w", vip.Name, err)
	}
	return nil
}

func writeVIPStatus(ctx context.Context, client versioned.Interface, vip *v1alpha1.VIP, report VIPReport) error {
	status := vip.Status.DeepCopy()
	if status.Node != report.Node {
		status.Since = nil
		if report.Node != "" {
			status.Since = &metav1.Time{Time: time.Now()}
		}
	}
	status.Node, status.Interface = report.Node, report.Interface
	status.Services, status.Backends = report.Services, report.Backends
	condition := metav1.Condition{
		Type:               v1alpha1.VIPHeld,
		Status:             metav1.ConditionFalse,
		Reason:             report.Reason,
		Message:            report.Message,
		ObservedGeneration: vip.Generation,
	}
	if report.Node != "" {
		condition.Status = metav1.ConditionTrue
	}
	changed := meta.SetStatusCondition(&status.Conditions, condition)
	if setConflict(&status.Conditions, vip.Generation, report.Conflict) {
		changed = true
	}
	old := vip.Status
	if !changed && old.Node == status.Node && old.Interface == status.Interface && old.Services == status.Services &&
		old.Backends == status.Backends {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": vip.UID, "resourceVersion": vip.ResourceVersion},
		"status": map[string]any{
			"node": status.Node, "interface": status.Interface, "since": status.Since,
			"services": status.Services, "backends": status.Backends, "conditions": status.Conditions,
		},
	})
	if err != nil {
		return fmt.Errorf("encode it: %w", err)
	}
	_, err = client.FairleadV1alpha1().VIPs().Patch(ctx, vip.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// setConflict makes the conditions tell of a conflict, or that there is none any more. Of a VIP that never had one they say
// nothing.
func setConflict(conditions *[]metav1.Condition, generation int64, conflict string) (changed bool) {
	condition := metav1.Condition{
		Type: v1alpha1.VIPConflict, Status: metav1.ConditionTrue, Reason: v1alpha1.VIPReasonConflict, Message: conflict,
		ObservedGeneration: generation,
	}
	if conflict == "" {
		if meta.FindStatusCondition(*conditions, v1alpha1.VIPConflict) == nil {
			return false
		}
		condition.Status, condition.Reason = metav1.ConditionFalse, v1alpha1.VIPReasonNoConflict
		condition.Message = "no host outside the cluster was heard to use the address lately"
	}
	return meta.SetStatusCondition(conditions, condition)
}
