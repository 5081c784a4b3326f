package source

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// Mapping is what a ConfigMap puts on one address.
type Mapping struct {
	Addr netip.Addr
	// Keys of the data that name the address, for messages.
	Keys []string
	// Targets in the order of their lines. None: the address is bound, and answers no port.
	Targets []Target
	// Unsure says that a line of the address could not be read: something may be missing from Targets.
	Unsure bool
}

// Target is one Service on an address, with all its ports.
type Target struct {
	Key     string // of the data
	Service types.NamespacedName
	Method  Method
}

// Method is how kube-keepalived-vip forwards packets to a Service's endpoints.
type Method string

// The methods. TUN is ours: keepalived has it, and kube-keepalived-vip has not.
const (
	MethodDefault Method = ""      // as the Service or the pool says
	MethodNAT     Method = "NAT"   // masquerade: any endpoint
	MethodDR      Method = "DR"    // direct return: endpoints that have the address themselves
	MethodTUN     Method = "TUN"   // the same through a tunnel
	MethodPROXY   Method = "PROXY" // through a proxy that tells the client's address by the PROXY protocol
)

var methods = map[Method]v1alpha1.Forwarding{
	MethodNAT: v1alpha1.ForwardMasquerade, MethodDR: v1alpha1.ForwardDirect, MethodTUN: v1alpha1.ForwardTunnel,
}

// LineError tells why a line of a ConfigMap cannot be used. Its text names the key, the line and the remedy.
type LineError struct {
	Key, Line, Problem, Remedy string
}

func (e *LineError) Error() string {
	return fmt.Sprintf("key %q: %q %s: %s", e.Key, e.Line, e.Problem, e.Remedy)
}

// lineForm teaches what to write.
const lineForm = "write namespace/service, with :NAT, :DR, :TUN or :PROXY after it if you like, and one Service a line"

// FromConfigMap reads the data of a ConfigMap as kube-keepalived-vip has it: keys are addresses, values the Services on them,
// separated by newlines or commas; no Service binds the address alone. A key cannot hold ":", so IPv6 addresses have "-" for
// it (2001-0db8-0000-0000-0000-0000-0000-0010). Where the key is no address, every line names its own before "="
// (web: "2001:db8::10=default/nginx"). An error joins one *LineError for each line that cannot be used; the mappings, sorted
// by address, then hold the others.
func FromConfigMap(data map[string]string) ([]Mapping, error) {
	found := map[netip.Addr]*Mapping{}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(data)) {
		keyAddr, keyErr := parseAddress(numbered.ReplaceAllString(key, "$1"))
		if keyErr == nil {
			at(found, keyAddr, key)
		}
		for line := range strings.FieldsFuncSeq(data[key], func(r rune) bool { return r == '\n' || r == ',' }) {
			if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			errs = append(errs, readLine(found, key, keyAddr, keyErr, line))
		}
		if keyErr != nil && strings.TrimSpace(data[key]) == "" {
			errs = append(errs, &LineError{key, "", "names no address", keyErr.Error()})
		}
	}
	out := make([]Mapping, 0, len(found))
	for _, m := range found {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b Mapping) int { return a.Addr.Compare(b.Addr) })
	return out, errors.Join(errs...)
}

// numbered is an IPv4 address with a word before it, by which kube-keepalived-vip lets several keys name one address
// (1-192.0.2.10, 2-192.0.2.10).
var numbered = regexp.MustCompile(`^\w+-(\d+\.\d+\.\d+\.\d+)$`)

// at is the mapping of an address, which is made if there is none.
func at(found map[netip.Addr]*Mapping, addr netip.Addr, key string) *Mapping {
	m := found[addr]
	if m == nil {
		m = &Mapping{Addr: addr}
		found[addr] = m
	}
	if !slices.Contains(m.Keys, key) {
		m.Keys = append(m.Keys, key)
	}
	return m
}

// readLine enters one line: [ADDRESS=]NAMESPACE/SERVICE[:METHOD], or ADDRESS= alone.
func readLine(found map[netip.Addr]*Mapping, key string, addr netip.Addr, keyErr error, line string) error {
	rest := line
	if before, after, own := strings.Cut(line, "="); own {
		parsed, err := parseAddress(strings.TrimSpace(before))
		if err != nil {
			return &LineError{key, line, "names no address before =", err.Error()}
		}
		addr, keyErr, rest = parsed, nil, strings.TrimSpace(after)
	}
	if keyErr != nil {
		return &LineError{key, line, "has no address, and its key is none", keyErr.Error() +
			"; or name the address in the line, before = (2001:db8::10=default/nginx)"}
	}
	m := at(found, addr, key)
	if rest == "" {
		return nil
	}
	target, err := parseTarget(key, line, rest)
	if err != nil {
		m.Unsure = true
		return err
	}
	if !slices.ContainsFunc(m.Targets, func(t Target) bool { return t.Service == target.Service }) {
		m.Targets = append(m.Targets, target)
	}
	return nil
}

// parseAddress reads an address, of which IPv6 may have "-" for ":". The error is the remedy.
func parseAddress(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.ReplaceAll(text, "-", ":"))
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return netip.Addr{}, errors.New("write an IPv4 address (192.0.2.10), or an IPv6 address with - for : " +
			"(2001-0db8-0000-0000-0000-0000-0000-0010)")
	}
	return addr, nil
}

func parseTarget(key, line, text string) (Target, error) {
	text, method, _ := strings.Cut(text, ":")
	namespace, name, ok := strings.Cut(strings.TrimSpace(text), "/")
	if !ok || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Label(name)) > 0 {
		return Target{}, &LineError{key, line, "names no Service", lineForm}
	}
	t := Target{Key: key, Service: types.NamespacedName{Namespace: namespace, Name: name},
		Method: Method(strings.ToUpper(strings.TrimSpace(method)))}
	switch t.Method {
	case MethodDefault, MethodNAT, MethodDR, MethodTUN, MethodPROXY:
		return t, nil
	}
	return Target{}, &LineError{key, line, fmt.Sprintf("has the forwarding method %q", method), lineForm}
}

// Frontends are all ports of the target's Service on an address of a family. configMap, as "namespace/name", is who maps it.
func (t Target) Frontends(svc *corev1.Service, family corev1.IPFamily, configMap string) ([]v1alpha1.Frontend, error) {
	ranges, errRanges := sourceRanges(svc)
	like, errSettings := settings(svc)
	if err := errors.Join(errRanges, errSettings); err != nil {
		return nil, err
	}
	like.Service = v1alpha1.ServiceReference{Namespace: svc.Namespace, Name: svc.Name}
	like.ConfigMap, like.SourceRanges = configMap, rangesOf(ranges, family)
	if forwarding, says := methods[t.Method]; says {
		like.Forwarding = forwarding
	}
	return frontends(like, svc.Spec.Ports), nil
}
