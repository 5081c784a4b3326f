package convert

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

// Keys of the ConfigMap of kube-vip-cloud-provider. Those that end in a dash are followed by a namespace, or by global.
const (
	kubeVIPCIDR        = "cidr-"
	kubeVIPRange       = "range-"
	kubeVIPInterface   = "interface-"
	kubeVIPShare       = "allow-share-"
	kubeVIPSearchOrder = "search-order"
	kubeVIPSkipEnds    = "skip-end-ips-in-cidr"

	kubeVIPGlobal = "global"
	// kubeVIPDHCP in place of addresses leaves them to DHCP.
	kubeVIPDHCP = "0.0.0.0/32"
)

func ownsKubeVIP(o object) bool {
	if !isConfigMap(o) {
		return false
	}
	var data map[string]json.RawMessage
	if json.Unmarshal(o.Data, &data) != nil {
		return false
	}
	if o.Metadata.Name == "kubevip" && o.Metadata.Namespace == "kube-system" {
		return true
	}
	// The name is a variable of the provider.
	for key := range data {
		if strings.HasPrefix(key, kubeVIPCIDR) || strings.HasPrefix(key, kubeVIPRange) {
			return true
		}
	}
	return false
}

// kubeVIP is one ConfigMap.
type kubeVIP struct {
	*collector
	from object
	data map[string]string
}

func convertKubeVIP(c *collector, objects []object) {
	for _, o := range objects {
		if data, ok := decode[map[string]string](c, o, "data", o.Data); ok {
			(&kubeVIP{c, o, data}).convert()
		}
	}
}

func (k *kubeVIP) convert() {
	namespaces := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(k.data)) {
		value := k.data[key]
		switch {
		case strings.HasPrefix(key, kubeVIPCIDR), strings.HasPrefix(key, kubeVIPRange):
			_, namespace, _ := strings.Cut(key, "-")
			namespaces[namespace] = true
		case strings.HasPrefix(key, kubeVIPShare):
			if share, err := strconv.ParseBool(value); err == nil && share {
				k.note(k.from, "data."+key, "", "lets all Services share addresses, which in Fairlead each Service agrees to",
					"give those that may share an address the annotation metallb.io/allow-shared-ip with one value")
			}
		case key == kubeVIPSearchOrder:
			if value == "desc" {
				k.note(k.from, "data."+key, value, "has no equivalent", "Fairlead gives the lowest free address")
			}
		case key == kubeVIPSkipEnds, strings.HasPrefix(key, kubeVIPInterface):
		default:
			k.note(k.from, "data."+key, value, "is not converted", "Fairlead has no such setting")
		}
	}
	var converted []string
	// The pool for all comes last, as it is used last.
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		if namespace != kubeVIPGlobal && k.pool(namespace) {
			converted = append(converted, namespace)
		}
	}
	if namespaces[kubeVIPGlobal] && k.pool(kubeVIPGlobal) && len(converted) > 0 {
		k.note(k.from, "data."+k.addressKey(kubeVIPGlobal), "", "is not used by kube-vip for the namespaces with addresses of their "+
			"own ("+strings.Join(converted, ", ")+"), and Fairlead uses it once those are full",
			"to prevent that, let spec.namespaceSelectors of the pool leave these namespaces out")
	}
	k.noteInterfaces(converted)
}

// addressKey is the key that kube-vip reads for a namespace, or "": any CIDR, of the namespace or global, goes before a range.
func (k *kubeVIP) addressKey(namespace string) string {
	for _, key := range []string{kubeVIPCIDR + namespace, kubeVIPCIDR + kubeVIPGlobal, kubeVIPRange + namespace} {
		if _, ok := k.data[key]; ok {
			if strings.HasSuffix(key, "-"+namespace) {
				return key
			}
			return ""
		}
	}
	return ""
}

// pool converts the addresses of a namespace, or the global ones.
func (k *kubeVIP) pool(namespace string) bool {
	key := k.addressKey(namespace)
	if unread := kubeVIPRange + namespace; key != unread && k.data[unread] != "" {
		k.note(k.from, "data."+unread, k.data[unread], "is not read by kube-vip, since a CIDR goes before it",
			"the addresses are left out; add them to a pool if they are to be used")
	}
	if key == "" {
		return false
	}
	value := k.data[key]
	if value == kubeVIPDHCP {
		k.note(k.from, "data."+key, value, "leaves the addresses to DHCP, which has no equivalent",
			"make an IPPool of addresses that the DHCP server does not give")
		return false
	}
	d := draft{from: k.from, name: k.from.Metadata.Name + "-" + namespace, path: "data",
		addresses: strings.Split(value, ","), addressField: key, excludeField: key, limitField: key}
	if k.data[kubeVIPSkipEnds] == "true" {
		d.exclude = ends(d.addresses)
	}
	if namespace != kubeVIPGlobal {
		d.spec = v1alpha1.IPPoolSpec{Namespaces: []string{namespace}}
	}
	for _, name := range []string{k.data[kubeVIPInterface+namespace], k.data[kubeVIPInterface+kubeVIPGlobal]} {
		if name != "" {
			d.spec.Interfaces = []string{name}
			break
		}
	}
	_, ok := k.addPool(d)
	return ok
}

// ends are the first and last addresses of IPv4 networks that have them (not of a /31, RFC 3021, nor of one address).
func ends(cidrs []string) []string {
	var out []string
	for _, text := range cidrs {
		prefix, err := netip.ParsePrefix(network(text))
		if err != nil || !prefix.Addr().Is4() || prefix.Bits() >= 31 {
			continue
		}
		if r, err := pool.ParseRange(prefix.String()); err == nil {
			out = append(out, r.First.String(), r.Last.String())
		}
	}
	return out
}

// noteInterfaces notes interfaces of namespaces that have no pool to put them in.
func (k *kubeVIP) noteInterfaces(converted []string) {
	for _, key := range slices.Sorted(maps.Keys(k.data)) {
		namespace, ok := strings.CutPrefix(key, kubeVIPInterface)
		if ok && namespace != kubeVIPGlobal && !slices.Contains(converted, namespace) {
			k.note(k.from, "data."+key, k.data[key], "is for a namespace without a pool of its own",
				fmt.Sprintf("make a pool with spec.namespaces [%s] and spec.interfaces [%s]", namespace, k.data[key]))
		}
	}
}
