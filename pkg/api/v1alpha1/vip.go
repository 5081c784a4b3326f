package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// VIP is one virtual address. Its name is the address in canonical form (IPv6 fully expanded, with "-" for ":"), so that the
// API server's rule of unique names makes a double allocation impossible: creating the object is the allocation.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=vip
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="Services",type=string,JSONPath=`.status.services`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.node`,description="The node that holds the address now"
// +kubebuilder:printcolumn:name="Backends",type=string,JSONPath=`.status.backends`,description="Ready backends of all"
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.since`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Held")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type VIP struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec VIPSpec `json:"spec"`
	// +optional
	Status VIPStatus `json:"status,omitempty"`
}

// VIPSpec is what the controller resolved: speakers need nothing else but EndpointSlices and Nodes.
type VIPSpec struct {
	// address of the VIP in canonical form.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip.isCanonical(self)",message="must be an IP address in canonical form (192.0.2.10, 2001:db8::10)"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="an address cannot be changed: it is the object's name"
	Address string `json:"address"`

	// pool the address comes from.
	// +optional
	Pool string `json:"pool,omitempty"`

	// interfaces of a node on which the VIP may be bound, as in the pool.
	// +listType=atomic
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`

	// nodeSelector limits the nodes that may hold the VIP, as in the pool.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// frontends are the ports that answer on the VIP.
	// +listType=map
	// +listMapKey=port
	// +listMapKey=protocol
	// +optional
	Frontends []Frontend `json:"frontends,omitempty"`
}

// Frontend is one port of a VIP: the packets to it go to the endpoints of one port of a Service.
type Frontend struct {
	// port that clients connect to.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port"`
	// protocol of the port.
	// +kubebuilder:validation:Enum=TCP;UDP;SCTP
	// +kubebuilder:default=TCP
	Protocol corev1.Protocol `json:"protocol"`
	// service whose endpoints are the backends.
	Service ServiceReference `json:"service"`
	// portName is the name of the Service's port, by which its EndpointSlices name the target port. Empty for the one
	// port of a Service that has no name.
	// +optional
	PortName string `json:"portName,omitempty"`
	// sourceRanges that may connect, as CIDRs of the VIP's family. Empty: everybody.
	// +listType=atomic
	// +optional
	SourceRanges []string `json:"sourceRanges,omitempty"`
}

// ServiceReference names a Service, and which one of that name.
type ServiceReference struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// uid tells a Service from a later one of the same name.
	// +optional
	UID string `json:"uid,omitempty"`
}

// VIPStatus is written by the speaker that holds the VIP, or, while nobody does, by one that explains why.
type VIPStatus struct {
	// node that holds the VIP.
	// +optional
	Node string `json:"node,omitempty"`
	// interface of the node on which the VIP is bound.
	// +optional
	Interface string `json:"interface,omitempty"`
	// since when the node holds the VIP.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// services that answer on the VIP, as "namespace/name", separated by commas.
	// +optional
	Services string `json:"services,omitempty"`
	// backends as "ready/all", over all frontends.
	// +optional
	Backends string `json:"backends,omitempty"`
	// conditions: Held (a node holds and announces the VIP).
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Condition types and reasons of a VIP.
const (
	VIPHeld              = "Held"
	VIPReasonAnnounced   = "Announced"
	VIPReasonNoCandidate = "NoCandidate"
	VIPReasonFailed      = "DatapathFailed"
)

// VIPList is a list of VIPs.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type VIPList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VIP `json:"items"`
}
