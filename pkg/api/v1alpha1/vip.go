package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// VIP is one virtual address. Its name is the address in canonical form (IPv6 fully expanded, with "-" for ":"), so that the
// API server's rule of unique names makes a double allocation impossible: creating the object is the allocation. The
// controller makes and deletes VIPs as Services and ConfigMaps need them. One that a user made is a reservation: the address
// is given to nobody who does not ask for it, and the object is never deleted.
//
// A VIP of any other name is a claim: a user asks for an address, of a pool if spec.pool names one, and the controller writes
// it to spec.address, reserves it under its own name, and keeps it for as long as the claim exists.
//
// +genclient
// +genclient:nonNamespaced
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=vip
// +kubebuilder:subresource:status
// +kubebuilder:validation:XValidation:rule="!isIP(self.metadata.name.replace('-', ':')) || has(self.spec.address) && isIP(self.spec.address) && ip(self.spec.address) == ip(self.metadata.name.replace('-', ':'))",message="a VIP that is named after an address must have that one in spec.address; give a claim another name"
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
	// address of the VIP in canonical form. Empty in a claim until it has one.
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self == '' || isIP(self) && ip.isCanonical(self)",message="must be an IP address in canonical form (192.0.2.10, 2001:db8::10)"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf || oldSelf == ''",message="an address cannot be changed: make another VIP"
	// +optional
	Address string `json:"address,omitempty"`

	// pool the address comes from, or, in a claim, is to come from.
	// +optional
	Pool string `json:"pool,omitempty"`

	// family of the address that a claim without an address asks for. Empty: IPv4, or IPv6 if only pools with IPv6
	// addresses alone come into question.
	// +kubebuilder:validation:Enum=IPv4;IPv6
	// +optional
	Family corev1.IPFamily `json:"family,omitempty"`

	// owners keep the VIP, with or without frontends: the ConfigMaps that map the address and the claims that reserve it.
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	// +optional
	Owners []Owner `json:"owners,omitempty"`

	// interfaces of a node on which the VIP may be bound, as in the pool.
	// +listType=atomic
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`

	// nodeSelector limits the nodes that may hold the VIP, as in the pool.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// preferredNodes are preferred to hold the VIP, as in the pool.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	PreferredNodes []PreferredNodes `json:"preferredNodes,omitempty"`

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
	// nodePort of the Service's port, 0 if it has none.
	// +optional
	NodePort int32 `json:"nodePort,omitempty"`
	// configMap that put the Service on the VIP, as "namespace/name". Empty: the Service asked for the address itself.
	// +optional
	ConfigMap string `json:"configMap,omitempty"`
	// share says with which other Services the Service shares the VIP. Without it, it shares with none.
	// +optional
	Share *Share `json:"share,omitempty"`
	// sourceRanges that may connect, as CIDRs of the VIP's family. Empty: everybody.
	// +listType=atomic
	// +optional
	SourceRanges []string `json:"sourceRanges,omitempty"`
	// scheduler that picks the backend of a new connection, as in the pool.
	// +optional
	Scheduler Scheduler `json:"scheduler,omitempty"`
	// backends that take the connections, as in the pool. Empty: the Service's pods.
	// +optional
	Backends *Backends `json:"backends,omitempty"`
	// forwarding of packets to the backends, as in the pool.
	// +optional
	Forwarding Forwarding `json:"forwarding,omitempty"`
	// externalTrafficPolicy of the Service. Local: only nodes with a ready pod of it hold the VIP, and only their own pods get
	// connections, from the client's address. It matters for backends of kind Pods.
	// +kubebuilder:validation:Enum=Cluster;Local
	// +optional
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`
	// healthCheckNodePort of the Service, 0 if it has none.
	// +optional
	HealthCheckNodePort int32 `json:"healthCheckNodePort,omitempty"`
	// affinitySeconds is for how long after its last connection a client address keeps its backend (sessionAffinity
	// ClientIP of the Service); 0: connections are scheduled one by one.
	// +optional
	AffinitySeconds int32 `json:"affinitySeconds,omitempty"`
	// healthCheck of the backends, as in the pool.
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`
	// drainSeconds for which a backend that is to get no new connections keeps those that it has, as in the pool. Empty: 300.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	// +optional
	DrainSeconds *int32 `json:"drainSeconds,omitempty"`
}

// Share is a Service's agreement to share its addresses. Two Services share one if each agrees with the other: the keys are
// equal, the namespaces are allowed, and the backends are equal.
type Share struct {
	// key that both Services name.
	Key string `json:"key"`
	// namespaces other than its own that the Service shares with. "*": all.
	// +listType=atomic
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// backends is the selector of a Service with externalTrafficPolicy Local, and empty otherwise. The node that holds the
	// address needs a pod of each Service; only the same pods are always on the same nodes.
	// +optional
	Backends string `json:"backends,omitempty"`
}

// Owner is what a VIP is kept for besides its frontends.
type Owner struct {
	// kind: ConfigMap, or VIP for a claim.
	// +kubebuilder:validation:Enum=ConfigMap;VIP
	Kind string `json:"kind"`
	// namespace of a ConfigMap.
	// +optional
	Namespace string `json:"namespace,omitempty"`
	// name of the ConfigMap or the claim.
	Name string `json:"name"`
	// uid tells a claim from a later one of the same name. Empty for a ConfigMap: it is known by its name.
	// +optional
	UID string `json:"uid,omitempty"`
}

// Kinds of an Owner.
const (
	OwnerConfigMap = "ConfigMap"
	OwnerVIP       = "VIP"
)

// ServiceReference names a Service, and which one of that name.
type ServiceReference struct {
	// namespace of the Service.
	Namespace string `json:"namespace"`
	// name of the Service.
	Name string `json:"name"`
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
	// conditions: Held (a node holds and announces the VIP), AddressConflict (written once a host outside the cluster uses
	// the address), Covered (written once no pool covers the address any more), Mapped (what ConfigMaps put on the VIP is
	// there), and Bound, of a claim (it has its address).
	// +listType=map
	// +listMapKey=type
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// What people tell speakers.
const (
	// LabelMaintenance on a Node, whatever its value: its VIPs go to other nodes that may hold them, and stay away.
	LabelMaintenance = GroupName + "/maintenance"
	// AnnotationMoveTo on a VIP names the node that it shall be handed over to, if that one may hold it.
	AnnotationMoveTo = GroupName + "/move-to"
)

// Condition types of a VIP.
const (
	VIPHeld     = "Held"
	VIPConflict = "AddressConflict"
	VIPCovered  = "Covered"
	VIPMapped   = "Mapped"
	VIPBound    = "Bound"
)

// Reasons of the conditions of a VIP.
const (
	VIPReasonAnnounced   = "Announced"
	VIPReasonNoCandidate = "NoCandidate"
	VIPReasonFailed      = "DatapathFailed"
	VIPReasonConflict    = "AddressConflict"
	VIPReasonNoConflict  = "NoConflict"
	VIPReasonInPool      = "InPool"
	VIPReasonNotInPool   = "NotInPool"
	VIPReasonMapped      = "Mapped"
	VIPReasonNotMapped   = "NotAsMapped"
	VIPReasonBound       = "AddressReserved"
	VIPReasonUnbound     = "AllocationFailed"
)

// Labels that tell the VIPs that the controller made, and may delete, from those of users.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "fairlead-controller"
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
