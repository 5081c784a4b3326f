package v1alpha1

// HealthCheck says how speakers find out whether a backend answers, besides what Kubernetes says of it. A backend that fails
// gets no new connections and keeps those it has. If every backend that Kubernetes calls ready fails, all of them get
// connections as if none did (fail open).
//
// +kubebuilder:validation:XValidation:rule="self.type != 'TCP' || !has(self.path) && !has(self.host) && !has(self.expectedCodes)",message="path, host and expectedCodes are for the types HTTP and HTTPS: set type to one of them, or leave them out"
// +kubebuilder:validation:XValidation:rule="self.type == 'HTTPS' || !has(self.verifyCertificate) || !self.verifyCertificate",message="verifyCertificate is for type HTTPS: set type to HTTPS, or leave verifyCertificate out"
type HealthCheck struct {
	// type of the check. TCP: a connection can be opened. HTTP and HTTPS: a GET is answered with an expected code.
	// +kubebuilder:default=TCP
	// +optional
	Type HealthCheckType `json:"type,omitempty"`

	// port to connect to on the backend. Empty: the port that takes the connections; frontends of UDP and SCTP are then not
	// checked, because what serves them need not listen for TCP too.
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

	// verifyCertificate makes an HTTPS check fail if the certificate is not valid for host (or the backend's address, if
	// host is empty) by the authorities that the speaker's system knows. Off by default, as in keepalived: a check asks
	// whether the backend answers.
	// +optional
	VerifyCertificate bool `json:"verifyCertificate,omitempty"`

	// intervalSeconds from the start of one check to that of the next, a tenth more or less at random. A check that takes
	// longer delays the next.
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
}

// HealthCheckType is what a check does.
//
// +kubebuilder:validation:Enum=TCP;HTTP;HTTPS
type HealthCheckType string

// The types of checks.
const (
	CheckTCP   HealthCheckType = "TCP"
	CheckHTTP  HealthCheckType = "HTTP"
	CheckHTTPS HealthCheckType = "HTTPS"
)

// StatusCodes is an HTTP status code, or a range of them.
//
// +kubebuilder:validation:MaxLength=7
// +kubebuilder:validation:Pattern=`^[1-5][0-9]{2}(-[1-5][0-9]{2})?$`
type StatusCodes string

// What a HealthCheck has where it says nothing. Rise and fall are HAProxy's (configuration manual, section 5.2), and so is
// that the first check decides. Interval and timeout are between HAProxy's 2 s and the 10 s and 1 s of a kubelet's probe.
const (
	DefaultCheckPath            = "/"
	DefaultCheckCodes           = StatusCodes("200-399")
	DefaultCheckIntervalSeconds = 5
	DefaultCheckTimeoutSeconds  = 2
	DefaultCheckRise            = 2
	DefaultCheckFall            = 3
)

// Reasons of events of a VIP about its backends.
const (
	VIPReasonBackendDown = "BackendDown"
	VIPReasonBackendUp   = "BackendUp"
)
