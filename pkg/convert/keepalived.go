package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fairlead/fairlead/pkg/source"
)

// The ConfigMap that maps addresses to Services, as the controller reads it.
const (
	mapNamespace = "fairlead-system"
	mapName      = "fairlead-vips"
)

// keepalivedKey is a key of kube-keepalived-vip: an address, an index before it if another key has the same, and an interface.
var keepalivedKey = regexp.MustCompile(`^(?:\w+-)?([a-fA-F0-9.:]+)(?:@(.+))?$`)

// keepalivedAddress reads a key. IPv6 has "-" for ":" too, since a ConfigMap's keys have no ":".
func keepalivedAddress(key string) (addr netip.Addr, iface string, ok bool) {
	addr, err := netip.ParseAddr(strings.ReplaceAll(key, "-", ":"))
	if err != nil {
		match := keepalivedKey.FindStringSubmatch(key)
		if match == nil {
			return netip.Addr{}, "", false
		}
		iface = match[2]
		addr, err = netip.ParseAddr(match[1])
	}
	return addr, iface, err == nil && addr.Zone() == "" && !addr.Is4In6()
}

func ownsKeepalived(o object) bool {
	if !isConfigMap(o) {
		return false
	}
	var data map[string]json.RawMessage
	if json.Unmarshal(o.Data, &data) != nil {
		return false
	}
	for key := range data {
		if _, _, ok := keepalivedAddress(key); ok {
			return true
		}
	}
	return false
}

func convertKeepalived(c *collector, objects []object) {
	lines := map[string][]string{}
	for _, o := range objects {
		data, ok := decode[map[string]string](c, o, "data", o.Data)
		if !ok {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(data)) {
			c.keepalivedEntry(o, key, data[key], lines)
		}
	}
	if len(lines) == 0 {
		return
	}
	c.result.Map = &corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: mapNamespace, Name: mapName},
		Data:       map[string]string{},
	}
	for name, services := range lines {
		c.result.Map.Data[name] = strings.Join(services, "\n")
	}
}

// keepalivedEntry adds one address and its Services to lines.
func (c *collector) keepalivedEntry(o object, key, value string, lines map[string][]string) {
	field := "data." + key
	addr, iface, ok := keepalivedAddress(key)
	if !ok {
		c.note(o, field, value, "is not an address", "it is left out; write IPv4 (192.0.2.10), or IPv6 with - for :")
		return
	}
	if iface != "" {
		c.note(o, field, iface, "names an interface, which is set per pool in Fairlead",
			"put it into spec.interfaces of the pool that has the address")
	}
	name := source.VIPName(addr)
	entries := strings.FieldsFunc(value, func(r rune) bool { return r == '\n' || r == ',' })
	entries = slices.DeleteFunc(entries, func(entry string) bool { return strings.TrimSpace(entry) == "" })
	if len(entries) == 0 {
		if _, ok := lines[name]; !ok {
			lines[name] = nil // an address without a Service
		}
		return
	}
	for _, entry := range entries {
		entry = strings.TrimSpace(entry)
		method, err := checkEntry(entry)
		if err != nil {
			c.note(o, field, entry, err.Error(), "the line is left out; write namespace/service, or namespace/service:NAT")
			continue
		}
		switch method {
		case "DR":
			c.note(o, field, entry, "asks for DR", "pods on the host's network are served so, if they listen on the Service's own port; others as NAT")
		case "PROXY":
			c.note(o, field, entry, "asks for PROXY, which is not available", "the Service is not served; write :NAT if its pods can do without")
		}
		lines[name] = unique(append(lines[name], entry))
	}
}

// checkEntry reads namespace/service[:method]. The method is "" if there is none.
func checkEntry(entry string) (method string, err error) {
	service, method, named := strings.Cut(entry, ":")
	namespace, name, ok := strings.Cut(service, "/")
	if !ok || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Label(name)) > 0 {
		return "", errors.New("names no Service")
	}
	if named && !slices.Contains([]string{"NAT", "DR", "PROXY"}, method) {
		return "", fmt.Errorf("has the unknown method %q", method)
	}
	return method, nil
}
