package source

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// SortFrontends puts frontends in the one order in which they are written, by port and protocol, so that an equal list is
// equal text.
func SortFrontends(frontends []v1alpha1.Frontend) {
	slices.SortFunc(frontends, func(a, b v1alpha1.Frontend) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
}

// PortString names the port of a frontend for messages: "80/TCP".
func PortString(f v1alpha1.Frontend) string { return fmt.Sprintf("%d/%s", f.Port, f.Protocol) }

// frontends are a frontend like one for each port.
func frontends(like v1alpha1.Frontend, ports []corev1.ServicePort) []v1alpha1.Frontend {
	out := make([]v1alpha1.Frontend, 0, len(ports))
	for _, port := range ports {
		f := like.DeepCopy()
		f.Port, f.Protocol, f.PortName, f.NodePort = port.Port, cmp.Or(port.Protocol, corev1.ProtocolTCP), port.Name, port.NodePort
		out = append(out, *f)
	}
	SortFrontends(out)
	return out
}

// sourceRanges reads spec.loadBalancerSourceRanges, sorted and without doubles.
func sourceRanges(svc *corev1.Service) (ranges []netip.Prefix, err error) {
	var errs []error
	for _, value := range svc.Spec.LoadBalancerSourceRanges {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(value))
		if err != nil || prefix.Addr().Is4In6() {
			errs = append(errs, &Error{"spec.loadBalancerSourceRanges", value, "is not a CIDR",
				"write networks such as 198.51.100.0/24 or 2001:db8:1::/48"})
			continue
		}
		ranges = append(ranges, prefix.Masked())
	}
	slices.SortFunc(ranges, netip.Prefix.Compare)
	return slices.Compact(ranges), errors.Join(errs...)
}

// rangesOf are the source ranges of a family as text. Ranges of the other family alone let nobody in through this one: an
// empty list would open it to everybody.
func rangesOf(ranges []netip.Prefix, family corev1.IPFamily) (out []string) {
	for _, prefix := range ranges {
		if FamilyOf(prefix.Addr()) == family {
			out = append(out, prefix.String())
		}
	}
	if len(out) == 0 && len(ranges) > 0 {
		out = []string{nobody(family)}
	}
	return out
}

// nobody is, for each family, a source range that no packet from a client matches: the unspecified address (RFC 1122 section
// 3.2.1.3, RFC 4291 section 2.5.2) is never forwarded.
func nobody(family corev1.IPFamily) string {
	if family == corev1.IPv4Protocol {
		return "0.0.0.0/32"
	}
	return "::/128"
}
