package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPPool is a set of addresses that Services of type LoadBalancer may be given.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=pool;pools
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="IPv4",type=string,JSONPath=`.status.ipv4.capacity`,description="IPv4 addresses in the pool"
// +kubebuilder:printcolumn:name="Used4",type=string,JSONPath=`.status.ipv4.allocated`,description="IPv4 addresses given to VIPs"
// +kubebuilder:printcolumn:name="Free4",type=string,JSONPath=`.status.ipv4.available`,description="IPv4 addresses left"
// +kubebuilder:printcolumn:name="IPv6",type=string,JSONPath=`.status.ipv6.capacity`,description="IPv6 addresses in the pool"
// +kubebuilder:printcolumn:name="Used6",type=string,JSONPath=`.status.ipv6.allocated`,description="IPv6 addresses given to VIPs"
// +kubebuilder:printcolumn:name="Free6",type=string,JSONPath=`.status.ipv6.available`,description="IPv6 addresses left"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type IPPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPPoolSpec `json:"spec"`
	// +optional
	Status IPPoolStatus `json:"status,omitempty"`
}

// IPPoolSpec says which addresses there are, who gets them without asking, and which nodes may hold them.
type IPPoolSpec struct {
	// addresses of the pool, of either family or both. Each entry is a CIDR ("192.0.2.0/28", "2001:db8::/120"), a range
	// whose ends are both included ("192.0.2.10-192.0.2.20"), or one address ("192.0.2.10"). Every address of a CIDR is
	// handed out, its first and last too.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +listType=set
	Addresses []AddressRange `json:"addresses"`

	// autoAssign lets a Service that names neither pool nor address be given an address of this pool.
	// +kubebuilder:default=true
	// +optional
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// interfaces of a node on which VIPs of this pool may be bound, the first that the node has being taken. Empty: the
	// interface that has an address in the network of the VIP.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=15
	// +listType=atomic
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`

	// nodeSelector limits the nodes that may hold VIPs of this pool. Empty: every node.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// AddressRange is a CIDR, a range "first-last", or a single address.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=91
// +kubebuilder:validation:XValidation:rule="isCIDR(self) || isIP(self) || (self.split('-').size() == 2 && isIP(self.split('-')[0]) && isIP(self.split('-')[1]) && ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family())",message="must be a CIDR (192.0.2.0/28), a range of two addresses of one family (192.0.2.10-192.0.2.20), or a single address (192.0.2.10)"
type AddressRange string

// IPPoolStatus tells how much of the pool is used.
type IPPoolStatus struct {
	// +optional
	IPv4 *FamilyUsage `json:"ipv4,omitempty"`
	// +optional
	IPv6 *FamilyUsage `json:"ipv6,omitempty"`
	// conditions: Ready (False with reason Overlap, Invalid or Exhausted when no address can be given).
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// FamilyUsage counts addresses of one family. The counts are decimal strings: an IPv6 pool may hold more than 2^63.
type FamilyUsage struct {
	// capacity is the number of addresses in the pool.
	Capacity string `json:"capacity"`
	// allocated is the number of addresses that are VIPs.
	Allocated string `json:"allocated"`
	// available is the number of addresses left.
	Available string `json:"available"`
}

// Condition types and reasons of an IPPool.
const (
	PoolReady           = "Ready"
	PoolReasonReady     = "AddressesAvailable"
	PoolReasonOverlap   = "Overlap"
	PoolReasonInvalid   = "Invalid"
	PoolReasonExhausted = "Exhausted"
)

// IPPoolList is a list of IPPools.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type IPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IPPool `json:"items"`
}
