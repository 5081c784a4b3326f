package v1alpha1

// HealthCheck says how speakers find out whether a backend answers, besides what Kubernetes says of it. A backend that fails
// gets no new connections at once, and after removeAfterSeconds loses those that it has. With fewer than quorum backends up,
// the frontend goes by lastResort and whenAllFail.
//
// +kubebuilder:validation:XValidation:rule="self.type.startsWith('HTTP') || !has(self.path) && !has(self.host)",message="path, host, expectedCodes and bodyContains are for the types HTTP and HTTPS: set type to one of them, or leave them out"
// +kubebuilder:validation:XValidation:rule="self.type.startsWith('HTTP') || !has(self.expectedCodes) && !has(self.bodyContains)",message="path, host, expectedCodes and bodyContains are for the types HTTP and HTTPS: set type to one of them, or leave them out"
// +kubebuilder:validation:XValidation:rule="self.type == 'HTTPS' || !has(self.verifyCertificate) || !self.verifyCertificate",message="verifyCertificate is for type HTTPS: set type to HTTPS, or leave verifyCertificate out"
// +kubebuilder:validation:XValidation:rule="!has(self.caBundle) || has(self.verifyCertificate) && self.verifyCertificate",message="caBundle says by which authorities a certificate is verified: set verifyCertificate to true, or leave caBundle out"
// +kubebuilder:validation:XValidation:rule="self.type == 'UDP' || !has(self.payload) && !has(self.expectedReply)",message="payload and expectedReply are for type UDP: set type to UDP, or leave them out"
// +kubebuilder:validation:XValidation:rule="self.type == 'GRPC' || !has(self.grpcService)",message="grpcService is for type GRPC: set type to GRPC, or leave grpcService out"
type HealthCheck struct {
	// type of the check. TCP: a connection can be opened. HTTP and HTTPS: a GET is answered with an expected code. UDP: a
	// datagram is answered, or at least not refused. GRPC: the backend's health service (grpc.health.v1, in the clear) says
	// SERVING.
	// +kubebuilder:default=TCP
	// +optional
	Type HealthCheckType `json:"type,omitempty"`

	// port to connect to on the backend. Empty: the port that takes the connections; only frontends of UDP are then checked by
	// type UDP, and only those of TCP by the other types, because what serves one need not listen for the other too.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`

	// path of the GET, with a query if need be. Empty: "/".
	// +kubebuilder:validation:MaxLength=1024
	// +kubebuilder:validation:Pattern=`^/[!-~]*$`
	// +optional
	Path string `json:"path,omitempty"`

	// host is the GET's Host header, and for HTTPS the server name that the TLS handshake asks for. Empty: the backend's
	// address, and no server name.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[0-9A-Za-z._:\[\]-]+$`
	// +optional
	Host string `json:"host,omitempty"`

	// expectedCodes are the status codes of a good answer, each a code ("204") or a range whose ends are both included
	// ("200-399"). Empty: 200-399. Redirections are not followed.
	// +kubebuilder:validation:MaxItems=16
	// +listType=set
	// +optional
	ExpectedCodes []StatusCodes `json:"expectedCodes,omitempty"`

	// bodyContains is a text that must be in the first 64 KiB of a good answer's body, in the same case. Empty: the code alone
	// decides.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	// +optional
	BodyContains string `json:"bodyContains,omitempty"`

	// verifyCertificate makes an HTTPS check fail if the certificate is not valid for host (or the backend's address, if
	// host is empty) by the authorities of caBundle, or else those that the speaker's system knows. Off by default, as in
	// keepalived: a check asks whether the backend answers.
	// +optional
	VerifyCertificate bool `json:"verifyCertificate,omitempty"`

	// caBundle is the certificates of the authorities that verifyCertificate goes by, in PEM. Empty: those of the speaker's
	// system.
	// +kubebuilder:validation:MaxLength=16384
	// +kubebuilder:validation:Pattern=`^\s*-----BEGIN CERTIFICATE-----`
	// +optional
	CABundle string `json:"caBundle,omitempty"`

	// payload of the datagram of a UDP check, in base64. Empty: an empty datagram.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	Payload []byte `json:"payload,omitempty"`

	// expectedReply must be somewhere in a datagram that comes back to a UDP check, in base64. Empty: any reply is good, and so
	// is silence unless an ICMP error comes within half a second; hosts send few of those (Linux about one a second to each
	// peer), so that a reply is the surer sign where many ports of one host are checked.
	// +kubebuilder:validation:MaxLength=2048
	// +optional
	ExpectedReply []byte `json:"expectedReply,omitempty"`

	// grpcService is the service whose health a GRPC check asks for. Empty: the health of the whole server.
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[!-~]*$`
	// +optional
	GRPCService string `json:"grpcService,omitempty"`

	// intervalSeconds from the start of one check to that of the next, a tenth more or less at random, so that the checks of
	// many nodes do not come in step. A check that takes longer delays the next.
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	// +optional
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`

	// timeoutSeconds until a check that has no answer has failed.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=60
	// +optional
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`

	// rise is how many checks in a row must succeed before a backend that was down is up.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Rise int32 `json:"rise,omitempty"`

	// fall is how many checks in a row must fail before a backend that was up is down. The first check of a backend decides
	// alone: until then it counts as up.
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	Fall int32 `json:"fall,omitempty"`

	// removeAfterSeconds after a backend lost its weight because it is down, it is taken out of IPVS, so that connections which
	// hang on it break and clients connect again. 0: at once, as keepalived does unless inhibit_on_failure is set; a large
	// number is like inhibit_on_failure. Until then it keeps its connections. Backends of UDP and SCTP do not wait: their
	// clients would stay with them for as long as they send.
	// +kubebuilder:default=60
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	// +optional
	RemoveAfterSeconds *int32 `json:"removeAfterSeconds,omitempty"`

	// quorum is how many backends of a frontend must be up. With fewer, connections go to lastResort, or else where whenAllFail
	// says, as if all had failed.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +optional
	Quorum int32 `json:"quorum,omitempty"`

	// whenAllFail says who gets the connections if fewer than quorum backends are up and there is no lastResort. Open: all
	// that would without a check, because to refuse everybody is worse than to try. Closed: nobody; clients are refused
	// (ICMP port unreachable).
	// +kubebuilder:default=Open
	// +optional
	WhenAllFail FailurePolicy `json:"whenAllFail,omitempty"`

	// lastResort are the backends that get the connections while fewer than quorum of the others are up, such as one that
	// says sorry (keepalived's sorry_server): address:port, IPv6 in brackets. A frontend has those of its VIP's family. They
	// are not checked.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=4
	// +kubebuilder:validation:items:MaxLength=47
	// +kubebuilder:validation:items:Pattern=`^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}$`
	// +listType=set
	// +optional
	LastResort []string `json:"lastResort,omitempty"`
}

// FailurePolicy is what becomes of new connections if the backends of a frontend fail.
//
// +kubebuilder:validation:Enum=Open;Closed
type FailurePolicy string

// The failure policies.
const (
	FailOpen   FailurePolicy = "Open"
	FailClosed FailurePolicy = "Closed"
)

// HealthCheckType is what a check does.
//
// +kubebuilder:validation:Enum=TCP;HTTP;HTTPS;UDP;GRPC
type HealthCheckType string

// The types of checks.
const (
	CheckTCP   HealthCheckType = "TCP"
	CheckHTTP  HealthCheckType = "HTTP"
	CheckHTTPS HealthCheckType = "HTTPS"
	CheckUDP   HealthCheckType = "UDP"
	CheckGRPC  HealthCheckType = "GRPC"
)

// StatusCodes is an HTTP status code, or a range of them.
//
// +kubebuilder:validation:MaxLength=7
// +kubebuilder:validation:Pattern=`^[1-5][0-9]{2}(-[1-5][0-9]{2})?$`
type StatusCodes string

// What a HealthCheck has where it says nothing. Rise and fall are HAProxy's (configuration manual, section 5.2), and so is
// that the first check decides. Interval and timeout are between HAProxy's 2 s and the 10 s and 1 s of a kubelet's probe.
// A quorum of 1 is keepalived's. It removes a backend that fails at once; a minute lets one that restarts come back before its
// connections break.
const (
	DefaultCheckPath            = "/"
	DefaultCheckCodes           = StatusCodes("200-399")
	DefaultCheckIntervalSeconds = 5
	DefaultCheckTimeoutSeconds  = 2
	DefaultCheckRise            = 2
	DefaultCheckFall            = 3
	DefaultRemoveAfterSeconds   = 60
	DefaultQuorum               = 1
)

// DefaultDrainSeconds is how long a backend that takes no new connections keeps those that it has, where nothing else is said:
// the deregistration delay of AWS's load balancers.
const DefaultDrainSeconds = 300

// Reasons of events of a VIP about its backends.
const (
	VIPReasonBackendDown = "BackendDown"
	VIPReasonBackendUp   = "BackendUp"
	// VIPReasonQuorumLost and VIPReasonQuorumBack tell of frontends that have fewer backends up than their quorum.
	VIPReasonQuorumLost = "QuorumLost"
	VIPReasonQuorumBack = "QuorumRestored"
	// VIPReasonDrainEnded tells of a backend that was removed at the drain's deadline with connections left.
	VIPReasonDrainEnded = "DrainDeadline"
)
