package model

import (
	"net/netip"
	"time"
)

// CheckType is the kind of a health check.
type CheckType string

// The kinds of health checks: a connection that opens, a GET that is answered with an expected status code, a datagram that is
// answered or at least not refused, a gRPC health service that says SERVING.
const (
	CheckTCP   CheckType = "TCP"
	CheckHTTP  CheckType = "HTTP"
	CheckHTTPS CheckType = "HTTPS"
	CheckUDP   CheckType = "UDP"
	CheckGRPC  CheckType = "GRPC"
)

// Transport is the protocol by which a check of the type goes to the backend.
func (t CheckType) Transport() Protocol {
	if t == CheckUDP {
		return UDP
	}
	return TCP
}

// Check says how a backend is checked. It is a plain value: two that are equal are one check.
type Check struct {
	Type CheckType
	// Path, Host and Codes are those of a GET, empty for others. Host is the Host header and the TLS server name; if it is
	// empty the address stands in the header and no name in the handshake.
	Path, Host string
	Codes      StatusCodes
	// Body must be in the answer of a GET.
	Body string
	// Verify the certificate of HTTPS, by the authorities in CAs (PEM), or by the system's if that is empty.
	Verify bool
	CAs    string
	// Payload is the datagram of UDP, Reply what must be in one that comes back; if it is empty none needs to.
	Payload, Reply string
	// Service that a gRPC check asks for.
	Service string
	// Interval from start to start, and Timeout of one check.
	Interval, Timeout time.Duration
	// Rise and Fall are the numbers of equal results in a row that turn a verdict to up and to down.
	Rise, Fall int
}

// Target is what one check connects to. Backends whose checks are equal share it.
type Target struct {
	Addr  netip.AddrPort
	Check Check
}

// Limits of HTTP status codes (RFC 9110 section 15).
const (
	minStatusCode = 100
	maxStatusCode = 599
)

// StatusCodes is a set of HTTP status codes, 100 to 599, that compares with ==.
type StatusCodes [maxStatusCode/64 + 1]uint64

// Add puts the codes from first to last into the set, and reports whether all of them are status codes and in order.
func (s *StatusCodes) Add(first, last int) bool {
	if first < minStatusCode || last > maxStatusCode || first > last {
		return false
	}
	for code := first; code <= last; code++ {
		s[code/64] |= 1 << (code % 64)
	}
	return true
}

// Has reports whether a code is in the set.
func (s *StatusCodes) Has(code int) bool {
	return code >= minStatusCode && code <= maxStatusCode && s[code/64]&(1<<(code%64)) != 0
}
