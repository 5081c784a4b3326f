package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Backends says who takes the connections of a frontend.
//
// +kubebuilder:validation:XValidation:rule="self.kind != 'Static' || has(self.addresses) && size(self.addresses) > 0",message="kind Static needs addresses: list the backends there"
// +kubebuilder:validation:XValidation:rule="self.kind == 'Static' || !has(self.addresses) || size(self.addresses) == 0",message="addresses are for kind Static: set kind to Static, or leave addresses out"
// +kubebuilder:validation:XValidation:rule="!has(self.nodeSelector) || self.kind == 'NodePort' || self.kind == 'Nodes'",message="nodeSelector is for the kinds NodePort and Nodes: set kind to one of them, or leave nodeSelector out"
// +kubebuilder:validation:XValidation:rule="!has(self.weights) || size(self.weights) == 0 || self.kind != 'Pods'",message="weights are for the kinds NodePort, Nodes and Static: pods are alike"
// +kubebuilder:validation:XValidation:rule="!has(self.port) || self.kind == 'Nodes' || self.kind == 'Static'",message="port is for the kinds Nodes and Static: Pods and NodePort have the port from the Service"
type Backends struct {
	// kind of the backends. Pods: the Service's endpoints. NodePort: the nodes, at the Service's nodePort. Nodes: the nodes,
	// at port, where something outside of the Service listens, such as an ingress proxy on the host's network. Static: the
	// addresses that are listed, at port. With the last two it does not matter which pods the Service selects, if any.
	// +kubebuilder:default=Pods
	// +optional
	Kind BackendKind `json:"kind,omitempty"`

	// nodeSelector limits the nodes of the kinds NodePort and Nodes. Empty: every node, but for NodePort those with the label
	// node.kubernetes.io/exclude-from-external-load-balancers.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// port of the backends of the kinds Nodes and Static. Empty: the frontend's port.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`

	// addresses of the backends of kind Static. A frontend has those of its VIP's family.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=2
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:items:Pattern=`^[0-9A-Fa-f:.]+$`
	// +listType=set
	// +optional
	Addresses []string `json:"addresses,omitempty"`

	// weights of backends of the kinds NodePort and Nodes, by the name of the node, and of kind Static, by address. A backend
	// gets connections in proportion to its weight; with 0 it gets no new ones and keeps those it has. One that is not
	// named has 1. The schedulers rr, lc and dh heed nothing but 0.
	// +kubebuilder:validation:MaxProperties=256
	// +optional
	Weights map[string]Weight `json:"weights,omitempty"`

	// maxConnections of one backend: with as many it gets no new ones until a quarter of them have ended (ipvsadm(8), upper
	// threshold). Empty: no limit.
	// +kubebuilder:validation:Minimum=1
	// +optional
	MaxConnections int32 `json:"maxConnections,omitempty"`
}

// Weight of a backend.
//
// +kubebuilder:validation:Minimum=0
// +kubebuilder:validation:Maximum=1000
type Weight int32

// BackendKind is what the backends of a frontend are.
//
// +kubebuilder:validation:Enum=Pods;NodePort;Nodes;Static
type BackendKind string

// The kinds of backends.
const (
	BackendPods     BackendKind = "Pods"
	BackendNodePort BackendKind = "NodePort"
	BackendNodes    BackendKind = "Nodes"
	BackendStatic   BackendKind = "Static"
)
