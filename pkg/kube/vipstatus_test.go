package kube

import (
	"encoding/json"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/generated/clientset/versioned/fake"
)

// TestAStatusKeepsConditionsThatWereWrittenMeanwhile: the watch has not told of them yet.
func TestAStatusKeepsConditionsThatWereWrittenMeanwhile(t *testing.T) {
	mapped := func(status metav1.ConditionStatus) []metav1.Condition {
		return []metav1.Condition{{Type: v1alpha1.VIPMapped, Status: status, Reason: "Test"}}
	}
	seen := &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.1", UID: "u", ResourceVersion: "1"}}
	seen.Status.Conditions = mapped(metav1.ConditionFalse)
	newer := seen.DeepCopy()
	newer.ResourceVersion, newer.Status.Conditions = "2", mapped(metav1.ConditionTrue)

	client := fake.NewSimpleClientset(newer)
	var written v1alpha1.VIP
	client.PrependReactor("patch", "vips", func(action clienttesting.Action) (bool, runtime.Object, error) {
		var asked v1alpha1.VIP
		if err := json.Unmarshal(action.(clienttesting.PatchAction).GetPatch(), &asked); err != nil {
			t.Fatal(err)
		}
		if asked.ResourceVersion != newer.ResourceVersion {
			return true, nil, apierrors.NewConflict(schema.GroupResource{Resource: "vips"}, newer.Name, nil)
		}
		written = asked
		return true, newer, nil
	})
	report := VIPReport{Node: "n1", Interface: "eth0", Reason: v1alpha1.VIPReasonAnnounced, Message: "node n1 announces it"}
	if err := WriteVIPStatus(t.Context(), client, seen, report); err != nil {
		t.Fatal(err)
	}
	if written.Status.Node != "n1" || !meta.IsStatusConditionTrue(written.Status.Conditions, v1alpha1.VIPHeld) ||
		!meta.IsStatusConditionTrue(written.Status.Conditions, v1alpha1.VIPMapped) {
		t.Errorf("written: %+v", written.Status)
	}

	another := newer.DeepCopy()
	another.UID, another.ResourceVersion = "another", "3"
	if err := client.Tracker().Update(v1alpha1.SchemeGroupVersion.WithResource("vips"), another, ""); err != nil {
		t.Fatal(err)
	}
	newer.ResourceVersion, written = "3", v1alpha1.VIP{}
	if err := WriteVIPStatus(t.Context(), client, seen, report); err != nil || written.Name != "" || written.Status.Node != "" {
		t.Errorf("of an object that took its place: error %v, written %+v", err, written.Status)
	}
}
