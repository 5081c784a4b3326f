package source

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// Annotations of a Service.
const (
	// AnnotationAddresses asks for addresses: at most one of each family, separated by commas.
	AnnotationAddresses = v1alpha1.GroupName + "/addresses"
	// AnnotationPool asks for addresses of one IPPool.
	AnnotationPool = v1alpha1.GroupName + "/pool"
)

// Request is what a Service asks for.
type Request struct {
	// Service that asks.
	Service v1alpha1.ServiceReference
	// Families wanted, in the order in which the status lists their addresses.
	Families []corev1.IPFamily
	// RequireAll says that some of the families are as good as none (RequireDualStack).
	RequireAll bool
	// Addresses asked for, by family. A family that is not a key takes any.
	Addresses map[corev1.IPFamily]netip.Addr
	// AddressField is where Addresses come from, for messages.
	AddressField string
	// Pool asked for, or "".
	Pool string

	ports        []corev1.ServicePort
	sourceRanges []netip.Prefix
}

// Error tells what of a Service cannot be used. Its text names the field, the value and the remedy.
type Error struct {
	Field   string // annotation or field of the Service
	Value   string
	Problem string
	Remedy  string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %q %s: %s", e.Field, e.Value, e.Problem, e.Remedy)
}

// FromService reads a Service that is ours. An error joins one *Error for each value that cannot be used; the Request is then
// void.
func FromService(svc *corev1.Service) (Request, error) {
	r := Request{
		Service:  v1alpha1.ServiceReference{Namespace: svc.Namespace, Name: svc.Name, UID: string(svc.UID)},
		Families: families(svc),
		Pool:     strings.TrimSpace(svc.Annotations[AnnotationPool]),
		ports:    svc.Spec.Ports,
	}
	if p := svc.Spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		r.RequireAll = true
	}
	if len(r.ports) == 0 {
		return Request{}, &Error{"spec.ports", "", "has no port", "add the ports that are to answer on the address"}
	}
	errAddresses := r.readAddresses(svc)
	errRanges := r.readSourceRanges(svc.Spec.LoadBalancerSourceRanges)
	if err := errors.Join(errAddresses, errRanges); err != nil {
		return Request{}, err
	}
	return r, nil
}

// families of a Service: the API server fills ipFamilies in for every type but ExternalName.
func families(svc *corev1.Service) []corev1.IPFamily {
	if len(svc.Spec.IPFamilies) > 0 {
		return slices.Clone(svc.Spec.IPFamilies)
	}
	if addr, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil {
		return []corev1.IPFamily{familyOf(addr)}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

func familyOf(addr netip.Addr) corev1.IPFamily {
	if addr.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func (r *Request) readAddresses(svc *corev1.Service) error {
	value := svc.Annotations[AnnotationAddresses]
	r.AddressField = "annotation " + AnnotationAddresses
	if strings.TrimSpace(value) == "" {
		value, r.AddressField = svc.Spec.LoadBalancerIP, "spec.loadBalancerIP"
	}
	if strings.TrimSpace(value) == "" {
		return nil
	}
	r.Addresses = map[corev1.IPFamily]netip.Addr{}
	for part := range strings.SplitSeq(value, ",") {
		fail := func(problem, remedy string) error { return &Error{r.AddressField, value, problem, remedy} }
		part = strings.TrimSpace(part)
		addr, err := netip.ParseAddr(part)
		if err != nil || addr.Zone() != "" {
			return fail(fmt.Sprintf("holds %q, which is not an IP address", part),
				"write at most one address of each family, separated by a comma (192.0.2.10,2001:db8::10)")
		}
		if addr.Is4In6() {
			return fail(fmt.Sprintf("holds %s, an IPv4-mapped IPv6 address", part), fmt.Sprintf("write %s", addr.Unmap()))
		}
		family := familyOf(addr)
		if other, twice := r.Addresses[family]; twice {
			return fail(fmt.Sprintf("holds two %s addresses, %s and %s", family, other, addr), "keep one of them")
		}
		if !slices.Contains(r.Families, family) {
			return fail(fmt.Sprintf("holds %s, but the Service has no %s", addr, family),
				fmt.Sprintf("add %s to spec.ipFamilies (with spec.ipFamilyPolicy PreferDualStack) or remove the address", family))
		}
		r.Addresses[family] = addr
	}
	return nil
}

func (r *Request) readSourceRanges(ranges []string) error {
	var errs []error
	for _, value := range ranges {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(value))
		if err != nil || prefix.Addr().Is4In6() {
			errs = append(errs, &Error{"spec.loadBalancerSourceRanges", value, "is not a CIDR",
				"write networks such as 198.51.100.0/24 or 2001:db8:1::/48"})
			continue
		}
		r.sourceRanges = append(r.sourceRanges, prefix.Masked())
	}
	slices.SortFunc(r.sourceRanges, netip.Prefix.Compare)
	r.sourceRanges = slices.Compact(r.sourceRanges)
	return errors.Join(errs...)
}

// nobody is, for each family, a source range that no packet from a client matches: the unspecified address (RFC 1122 section
// 3.2.1.3, RFC 4291 section 2.5.2) is never forwarded.
func nobody(family corev1.IPFamily) string {
	if family == corev1.IPv4Protocol {
		return "0.0.0.0/32"
	}
	return "::/128"
}

// Frontends that the Service puts on its address of a family, ordered by port and protocol. A Service that lets in ranges of
// the other family alone lets nobody in through this one: an empty list would open it to everybody.
func (r Request) Frontends(family corev1.IPFamily) []v1alpha1.Frontend {
	var ranges []string
	for _, prefix := range r.sourceRanges {
		if familyOf(prefix.Addr()) == family {
			ranges = append(ranges, prefix.String())
		}
	}
	if len(ranges) == 0 && len(r.sourceRanges) > 0 {
		ranges = []string{nobody(family)}
	}
	frontends := make([]v1alpha1.Frontend, 0, len(r.ports))
	for _, port := range r.ports {
		protocol := port.Protocol
		if protocol == "" {
			protocol = corev1.ProtocolTCP
		}
		frontends = append(frontends, v1alpha1.Frontend{
			Port: port.Port, Protocol: protocol, Service: r.Service, PortName: port.Name, SourceRanges: slices.Clone(ranges),
		})
	}
	SortFrontends(frontends)
	return frontends
}
