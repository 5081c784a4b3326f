// Package serve is the server that plays a pod: it answers over HTTP, HTTPS, TCP, UDP and SCTP with its own name and the
// peer address it saw, and over gRPC that it is healthy. It owns its sockets and nothing else.
package serve

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Listen is what a server answers on.
type Listen struct {
	// Protocol is http, https, grpc, tcp, udp, sctp or chargen.
	Protocol string
	Port     uint16
}

// ParseListen reads PROTOCOL:PORT.
func ParseListen(text string) (Listen, error) {
	protocol, port, ok := strings.Cut(text, ":")
	if !ok || !slices.Contains([]string{"http", "https", "grpc", "tcp", "udp", "sctp", "chargen"}, protocol) {
		return Listen{}, fmt.Errorf("listen %q: want PROTOCOL:PORT with protocol http, https, grpc, tcp, udp, sctp or chargen", text)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return Listen{}, fmt.Errorf("listen %q: port %q is not a number from 1 to 65535", text, port)
	}
	return Listen{Protocol: protocol, Port: uint16(number)}, nil
}

// ParseListens reads several.
func ParseListens(texts []string) ([]Listen, error) {
	listens := make([]Listen, 0, len(texts))
	for _, text := range texts {
		listen, err := ParseListen(text)
		if err != nil {
			return nil, err
		}
		listens = append(listens, listen)
	}
	return listens, nil
}

func (l Listen) String() string { return fmt.Sprintf("%s:%d", l.Protocol, l.Port) }

// Transport is the protocol as Kubernetes names it.
func (l Listen) Transport() string {
	if slices.Contains([]string{"http", "https", "grpc", "chargen"}, l.Protocol) {
		return "TCP"
	}
	return strings.ToUpper(l.Protocol)
}
