package kube

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(change ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"rack": "1"}, Annotations: map[string]string{"long": "text"}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeHostName, Address: "192.0.2.99"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"},
				{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeInternalIP, Address: "2001:db8::1"},
			},
			Images: []corev1.ContainerImage{{SizeBytes: 1 << 30}},
		},
	}
	for _, apply := range change {
		apply(n)
	}
	return n
}

func TestOfANodeStaysWhatASpeakerReads(t *testing.T) {
	trimmed, err := trim(node())
	if err != nil {
		t.Fatal(err)
	}
	n := trimmed.(*corev1.Node)
	if got := fmt.Sprint(NodeAddresses(n)); got != "[192.0.2.1 2001:db8::1 203.0.113.1]" {
		t.Errorf("addresses %s, want the internal ones before the external one", got)
	}
	if !NodeReady(n) || n.Labels["rack"] != "1" {
		t.Error("its condition or its labels are gone")
	}
	if n.Annotations != nil || n.Status.Images != nil {
		t.Error("it keeps what nobody reads")
	}
}

func TestWhichUpdatesOfANodeMatter(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Node)
		want   bool
	}{
		"a heartbeat":      {func(n *corev1.Node) { n.Status.Conditions[0].LastHeartbeatTime = metav1.Now() }, false},
		"its condition":    {func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }, true},
		"its labels":       {func(n *corev1.Node) { n.Labels["rack"] = "2" }, true},
		"another address":  {func(n *corev1.Node) { n.Status.Addresses[2].Address = "192.0.2.2" }, true},
		"an address fewer": {func(n *corev1.Node) { n.Status.Addresses = n.Status.Addresses[:2] }, true},
	} {
		if got := matters(node(), node(test.change)); got != test.want {
			t.Errorf("%s matters: %v, want %v", name, got, test.want)
		}
	}
}
