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

// Request is what a Service asks for.
type Request struct {
	// Service that asks.
	Service v1alpha1.ServiceReference
	// Labels of the Service, which pools may select.
	Labels map[string]string
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
	// PoolField is where Pool comes from, for messages.
	PoolField string
	// Share is what the Service agrees to; nil: it shares its addresses with no other.
	Share *v1alpha1.Share

	ports        []corev1.ServicePort
	settings     v1alpha1.Frontend
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

// Request reads a Service that is ours. An error joins one *Error for each value that cannot be used; the Request is then
// void.
func (r Rules) Request(svc *corev1.Service) (Request, error) {
	asked := r.annotations(svc)
	request := Request{
		Service:   v1alpha1.ServiceReference{Namespace: svc.Namespace, Name: svc.Name, UID: string(svc.UID)},
		Labels:    svc.Labels,
		Families:  families(svc),
		Pool:      asked.pool.value,
		PoolField: asked.pool.field,
		ports:     svc.Spec.Ports,
	}
	if p := svc.Spec.IPFamilyPolicy; p != nil && *p == corev1.IPFamilyPolicyRequireDualStack {
		request.RequireAll = true
	}
	if len(request.ports) == 0 {
		return Request{}, &Error{"spec.ports", "", "has no port", "add the ports that are to answer on the address"}
	}
	var errs [4]error
	errs[0] = request.readAddresses(asked.addresses)
	request.sourceRanges, errs[1] = sourceRanges(svc)
	request.Share, errs[2] = asked.share(svc)
	request.settings, errs[3] = settings(svc)
	if err := errors.Join(errs[:]...); err != nil {
		return Request{}, err
	}
	return request, nil
}

// families of a Service: the API server fills ipFamilies in for every type but ExternalName.
func families(svc *corev1.Service) []corev1.IPFamily {
	if len(svc.Spec.IPFamilies) > 0 {
		return slices.Clone(svc.Spec.IPFamilies)
	}
	if addr, err := netip.ParseAddr(svc.Spec.ClusterIP); err == nil {
		return []corev1.IPFamily{FamilyOf(addr)}
	}
	return []corev1.IPFamily{corev1.IPv4Protocol}
}

// FamilyOf is the family of an address, as a Service names it.
func FamilyOf(addr netip.Addr) corev1.IPFamily {
	if addr.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

func (r *Request) readAddresses(asked value) error {
	if asked.value == "" {
		return nil
	}
	r.AddressField, r.Addresses = asked.field, map[corev1.IPFamily]netip.Addr{}
	for part := range strings.SplitSeq(asked.value, ",") {
		fail := func(problem, remedy string) error { return &Error{asked.field, asked.value, problem, remedy} }
		part = strings.TrimSpace(part)
		addr, err := netip.ParseAddr(part)
		if err != nil || addr.Zone() != "" {
			return fail(fmt.Sprintf("holds %q, which is not an IP address", part),
				"write at most one address of each family, separated by a comma (192.0.2.10,2001:db8::10)")
		}
		if addr.Is4In6() {
			return fail(fmt.Sprintf("holds %s, an IPv4-mapped IPv6 address", part), fmt.Sprintf("write %s", addr.Unmap()))
		}
		if addr.IsUnspecified() {
			return fail(fmt.Sprintf("holds %s, which asks for an address by DHCP elsewhere and for none here", part),
				"remove it, and make an IPPool of addresses that the DHCP server leaves free")
		}
		family := FamilyOf(addr)
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

// Frontends that the Service puts on its address of a family, ordered by port and protocol.
func (r Request) Frontends(family corev1.IPFamily) []v1alpha1.Frontend {
	like := r.settings
	like.Service, like.Share, like.SourceRanges = r.Service, r.Share, rangesOf(r.sourceRanges, family)
	return frontends(like, r.ports)
}
