package driver

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// postNode makes a Node object as a kubelet would, Ready.
func (d *Driver) postNode(ctx context.Context, i int) error {
	f := d.config.Families
	name := topology.Node(i)
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name:   name,
		Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux"},
	}}
	for _, cidr := range f.PodCIDRs(i) {
		object.Spec.PodCIDRs = append(object.Spec.PodCIDRs, cidr.String())
	}
	object.Spec.PodCIDR = object.Spec.PodCIDRs[0]
	created, err := d.kube.CoreV1().Nodes().Create(ctx, object, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create Node: %w", err)
	}
	now := metav1.Now()
	created.Status = corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Lab", Message: "a network namespace of the lab",
			LastHeartbeatTime: now, LastTransitionTime: now,
		}},
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}},
		Capacity:  corev1.ResourceList{corev1.ResourcePods: *resource.NewQuantity(topology.MaxPods, resource.DecimalSI)},
		NodeInfo:  corev1.NodeSystemInfo{KubeletVersion: "lab", OSImage: "network namespace", OperatingSystem: "linux"},
	}
	created.Status.Allocatable = created.Status.Capacity
	for _, address := range topology.Addresses(f.NodeAddresses(i)) {
		created.Status.Addresses = append(created.Status.Addresses,
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address.String()})
	}
	if _, err := d.kube.CoreV1().Nodes().UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update Node status: %w", err)
	}
	return nil
}

// nodeNumbers are those of the cluster's nodes.
func (d *Driver) nodeNumbers() []int {
	numbers := make([]int, d.config.Nodes)
	for k := range numbers {
		numbers[k] = d.before.nodes + k + 1
	}
	return numbers
}

// addNodes makes the hosts of all nodes.
func (d *Driver) addNodes(ctx context.Context) error {
	for _, i := range d.nodeNumbers() {
		if err := d.addNode(ctx, i); err != nil {
			return err
		}
		d.mu.Lock()
		d.nodes = append(d.nodes, &node{name: topology.Node(i), index: i, cuts: map[cluster.FaultKind]bool{}})
		d.mu.Unlock()
	}
	return nil
}

// addNode makes a node's host, with what a cluster's network plugin does on it: pods reach the world outside by the node's
// address.
func (d *Driver) addNode(ctx context.Context, i int) error {
	f := d.config.Families
	if err := d.remote.Add(ctx, f.NodeHost(i, d.nodeNumbers())); err != nil {
		return err
	}
	var rules strings.Builder
	for k, pods := range f.PodCIDRs(i) {
		family := "ip6"
		if pods.Addr().Is4() {
			family = "ip"
		}
		fmt.Fprintf(&rules, "\t\t%s saddr %s %s daddr != %s masquerade\n", family, pods, family, f.ClusterCIDRs()[k])
	}
	script := "table inet lab-network {\n\tchain postrouting {\n\t\ttype nat hook postrouting priority srcnat;\n" +
		rules.String() + "\t}\n}\n"
	err := d.do(ctx, topology.Node(i), strings.NewReader(script), "nft", "-f", "-")
	return err
}
