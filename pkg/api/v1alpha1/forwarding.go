package v1alpha1

// Forwarding is how packets get from the node that holds a VIP to a backend, and whose address the backend sees.
//
// +kubebuilder:validation:Enum=Masquerade;Direct;Tunnel
type Forwarding string

// The ways of forwarding.
const (
	// ForwardMasquerade rewrites the destination to the backend's address and port, and the source: to the node's address for
	// pods, to the VIP for nodes and listed addresses, so that their connections outlive the node that holds the VIP. With
	// externalTrafficPolicy Local the source stays the client's.
	ForwardMasquerade Forwarding = "Masquerade"
	// ForwardDirect hands packets on as they are to a backend in the same link-layer network, which answers the client
	// itself (direct server return). The backend is a node, or a listed address that has the VIP without announcing it,
	// and listens on the frontend's port.
	ForwardDirect Forwarding = "Direct"
	// ForwardTunnel is like Direct with each packet wrapped in one to the backend (RFC 2003, RFC 2473, RFC 4213), so that
	// the backend may be in another network, and have an IPv4 address only.
	ForwardTunnel Forwarding = "Tunnel"
)
