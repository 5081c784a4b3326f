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

	// exclude takes addresses out of the pool again, written as in addresses. They are never handed out, even when asked for.
	// +kubebuilder:validation:MaxItems=256
	// +listType=set
	// +optional
	Exclude []AddressRange `json:"exclude,omitempty"`

	// avoidBuggyIPs takes out the IPv4 addresses that end in .0 or .255, which some network equipment mistakes for network
	// and broadcast addresses.
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// avoidGatewayIPs takes out the IPv4 addresses that end in .1 or .254, where routers usually are.
	// +optional
	AvoidGatewayIPs bool `json:"avoidGatewayIPs,omitempty"`

	// autoAssign lets a Service that names neither pool nor address be given an address of this pool. Of a pool with
	// autoAssign false, addresses are had by asking: by annotation fairlead.dev/pool or fairlead.dev/addresses.
	// +kubebuilder:default=true
	// +optional
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// priority says which pool is used first by a Service that names none: the one with the highest number. Among equals,
	// one that is limited to some Services comes before one for all, then one with all the families that the Service
	// wants, then the first by name.
	// +kubebuilder:validation:Minimum=-1000000
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// namespaces whose Services may have addresses of this pool, by name. With namespaceSelectors, a namespace needs to be
	// named here or match one of those. Neither: every namespace.
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	// +listType=set
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelectors select, by their labels, namespaces whose Services may have addresses of this pool; one that
	// matches is enough. Every namespace has the label kubernetes.io/metadata.name.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// serviceSelectors select, by their labels, the Services that may have addresses of this pool, besides what namespaces
	// and namespaceSelectors ask for; one that matches is enough. Empty: every Service.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// reclaim says what becomes of an address that a Service has when the pool no longer covers it, because an entry was
	// taken out, the pool is being deleted, or its limits now leave the Service out, and no other pool covers it either.
	// Retain: the Service keeps it and is told so. Reassign: the Service is given another address if there is one.
	// +kubebuilder:default=Retain
	// +optional
	Reclaim ReclaimPolicy `json:"reclaim,omitempty"`

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

	// preferredNodes are preferred to hold VIPs of this pool: of the nodes that may, one of those is chosen whose weights add
	// up to the most. A VIP that is held elsewhere stays there until that node cannot hold it, or somebody rebalances.
	// +kubebuilder:validation:MaxItems=16
	// +listType=atomic
	// +optional
	PreferredNodes []PreferredNodes `json:"preferredNodes,omitempty"`

	// scheduler that picks the backend of a new connection (ipvsadm(8)). Empty: mh, by source address and port, which every
	// node computes alike. sh goes by the source address alone, so that a client keeps its backend. Nodes need the module
	// ip_vs_NAME of the kernel.
	// +optional
	Scheduler Scheduler `json:"scheduler,omitempty"`

	// backends that take the connections to VIPs of this pool. Empty: the Services' pods.
	// +kubebuilder:validation:XValidation:rule="!has(self.addresses) || self.addresses.all(a, isIP(a))",message="every one of addresses must be an IP address (192.0.2.20, 2001:db8::20)"
	// +optional
	Backends *Backends `json:"backends,omitempty"`

	// forwarding is how packets get to the backends. Empty: Masquerade. Direct and Tunnel keep the client's address and send
	// answers past the node that holds the VIP; they are for backends that are nodes (the kinds Nodes and Static, and pods
	// on the host's network) and listen on the Service's port itself. Where that is not so packets are masqueraded, and an
	// event of the VIP says why.
	// +optional
	Forwarding Forwarding `json:"forwarding,omitempty"`

	// serviceBackends are the kinds of backends that a Service may choose by annotation fairlead.dev/backend. Empty: Pods
	// and NodePort. Nodes lets everybody who may make a Service open a port of the nodes to the network.
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:Enum=Pods;NodePort;Nodes
	// +listType=set
	// +optional
	ServiceBackends []BackendKind `json:"serviceBackends,omitempty"`

	// healthCheck of the backends. Empty: Kubernetes alone says which of them are ready.
	// +kubebuilder:validation:XValidation:rule="!has(self.expectedCodes) || self.expectedCodes.all(c, size(c) == 3 || c.substring(0, 3) <= c.substring(4, 7))",message="a range of expectedCodes must not end before it begins: write it as 200-399"
	// +kubebuilder:validation:XValidation:rule="!has(self.lastResort) || self.lastResort.all(a, isIP(a.substring(0, a.lastIndexOf(':')).replace('[', '').replace(']', '')) && int(a.substring(a.lastIndexOf(':') + 1)) < 65536)",message="every one of lastResort must be an IP address with a port (192.0.2.80:8080, [2001:db8::80]:8080)"
	// +optional
	HealthCheck *HealthCheck `json:"healthCheck,omitempty"`

	// drainSeconds for which a backend that is to get no new connections keeps those that it has: one that terminates, is not
	// ready any more, or was taken out of backends. It is removed when its last connection has ended, or after that time. 0:
	// at once. The pods that Kubernetes lists no more are removed at once in any case, and so are backends of UDP and SCTP.
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=3600
	// +optional
	DrainSeconds *int32 `json:"drainSeconds,omitempty"`
}

// ReclaimPolicy is what becomes of an address that its pool no longer covers.
//
// +kubebuilder:validation:Enum=Retain;Reassign
type ReclaimPolicy string

// The reclaim policies.
const (
	ReclaimRetain   ReclaimPolicy = "Retain"
	ReclaimReassign ReclaimPolicy = "Reassign"
)

// Scheduler is the name of an IPVS scheduler (ipvsadm(8)).
//
// +kubebuilder:validation:Enum=rr;wrr;lc;wlc;lblc;lblcr;dh;sh;sed;nq;fo;ovf;mh
type Scheduler string

// Schedulers are the names that a Scheduler may have.
var Schedulers = []Scheduler{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"}

// AddressRange is a CIDR, a range "first-last", or a single address.
//
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=91
// +kubebuilder:validation:XValidation:rule="isCIDR(self) || isIP(self) || (self.split('-').size() == 2 && isIP(self.split('-')[0]) && isIP(self.split('-')[1]) && ip(self.split('-')[0]).family() == ip(self.split('-')[1]).family())",message="must be a CIDR (192.0.2.0/28), a range of two addresses of one family (192.0.2.10-192.0.2.20), or a single address (192.0.2.10)"
type AddressRange string

// PreferredNodes are nodes with a weight.
type PreferredNodes struct {
	// weight of the nodes.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// nodeSelector picks the nodes.
	NodeSelector metav1.LabelSelector `json:"nodeSelector"`
}

// IPPoolStatus tells how much of the pool is used.
type IPPoolStatus struct {
	// +optional
	IPv4 *FamilyUsage `json:"ipv4,omitempty"`
	// +optional
	IPv6 *FamilyUsage `json:"ipv6,omitempty"`
	// conditions: Ready (addresses can be given), Overlap (an older pool has some of the addresses), Exhausted (every
	// address of a family is given).
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

// Condition types of an IPPool.
const (
	PoolReady     = "Ready"
	PoolOverlap   = "Overlap"
	PoolExhausted = "Exhausted"
)

// Reasons of the conditions of an IPPool.
const (
	PoolReasonReady     = "AddressesAvailable"
	PoolReasonOverlap   = "Overlap"
	PoolReasonDisjoint  = "Disjoint"
	PoolReasonInvalid   = "Invalid"
	PoolReasonExhausted = "Exhausted"
	PoolReasonDeleting  = "Deleting"
)

// PoolFinalizer keeps an IPPool that is being deleted while addresses of it are used that no other pool covers.
const PoolFinalizer = GroupName + "/addresses-in-use"

// IPPoolList is a list of IPPools.
//
// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object
// +kubebuilder:object:root=true
type IPPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []IPPool `json:"items"`
}
