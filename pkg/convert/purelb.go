package convert

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

const (
	groupPureLB = "purelb.io"
	// purelbDefault is the ServiceGroup of Services that name none.
	purelbDefault = "default"
)

func ownsPureLB(o object) bool {
	return o.group() == groupPureLB && slices.Contains([]string{"ServiceGroup", "LBNodeAgent"}, o.Kind)
}

// purelbGroup is the spec of a ServiceGroup (purelb.io/v1 and v2).
type purelbGroup struct {
	Local  *purelbLocal    `json:"local"`
	Remote json.RawMessage `json:"remote"`
	Netbox json.RawMessage `json:"netbox"`
	EPIC   json.RawMessage `json:"epic"`

	Namespaces        []string `json:"namespaces"`
	EnforceNamespaces bool     `json:"enforceNamespaces"`
}

type purelbLocal struct {
	purelbPool
	V4Pool  *purelbPool   `json:"v4pool"`
	V6Pool  *purelbPool   `json:"v6pool"`
	V4Pools []*purelbPool `json:"v4pools"`
	V6Pools []*purelbPool `json:"v6pools"`
}

type purelbPool struct {
	Pool        string `json:"pool"`
	Aggregation string `json:"aggregation"`
}

// purelbAgent is the spec of an LBNodeAgent, with the fields that v1 and v2 name differently.
type purelbAgent struct {
	Local struct {
		LocalInt       string   `json:"localint"`
		LocalInterface string   `json:"localInterface"`
		Interfaces     []string `json:"interfaces"`
	} `json:"local"`
}

func convertPureLB(c *collector, objects []object) {
	for _, o := range objects {
		if o.Kind == "LBNodeAgent" {
			if spec, ok := decode[purelbAgent](c, o, "spec", o.Spec); ok {
				c.purelbAgent(o, spec)
			}
			continue
		}
		if spec, ok := decode[purelbGroup](c, o, "spec", o.Spec); ok {
			c.others(o, "spec", o.Spec, "local", "remote", "netbox", "epic", "namespaces", "enforceNamespaces")
			c.purelbGroup(o, spec)
		}
	}
}

func (c *collector) purelbGroup(o object, spec purelbGroup) {
	for _, other := range []struct {
		name   string
		text   json.RawMessage
		remedy string
	}{
		{"remote", spec.Remote, "its addresses are announced by routing; make an IPPool of addresses of a network of the nodes"},
		{"netbox", spec.Netbox, "its addresses are kept by NetBox; make an IPPool of those that it gives to this cluster"},
		{"epic", spec.EPIC, "its addresses are kept by a gateway; make an IPPool of addresses of a network of the nodes"},
	} {
		if len(other.text) > 0 && string(other.text) != "null" {
			c.note(o, "spec."+other.name, "", "has no equivalent", other.remedy)
		}
	}
	if spec.Local == nil {
		return
	}
	d := draft{from: o, name: o.Metadata.Name, path: "spec", addressField: "local pools", limitField: "namespaces",
		spec: v1alpha1.IPPoolSpec{Namespaces: spec.Namespaces}}
	for _, p := range spec.Local.pools() {
		d.addresses = append(d.addresses, fromAddress(p.Pool))
		if p.Aggregation != "" && p.Aggregation != "default" {
			c.note(o, "spec.local.aggregation", p.Aggregation, "has no equivalent", "Fairlead binds each VIP as a single address")
		}
	}
	if len(spec.Namespaces) > 0 && !spec.EnforceNamespaces {
		c.note(o, "spec.namespaces", strings.Join(spec.Namespaces, ","), "does not keep Services of other namespaces from asking, in PureLB",
			"Fairlead gives addresses of the pool to these alone; add the others to its spec.namespaces")
	}
	asked := o.Metadata.Name != purelbDefault && len(spec.Namespaces) == 0
	if asked {
		d.spec.AutoAssign = new(bool)
	}
	if name, ok := c.addPool(d); ok && asked {
		c.note(o, "", "", "is asked for by the annotation purelb.io/service-group: "+o.Metadata.Name,
			"give those Services fairlead.dev/pool: "+name)
	}
}

func (l purelbLocal) pools() []purelbPool {
	var out []purelbPool
	if l.Pool != "" {
		out = append(out, l.purelbPool)
	}
	for _, p := range slices.Concat([]*purelbPool{l.V4Pool, l.V6Pool}, l.V4Pools, l.V6Pools) {
		if p != nil {
			out = append(out, *p)
		}
	}
	return out
}

// fromAddress writes a CIDR that names an address of its network as the range from there: that is what PureLB gives.
func fromAddress(text string) string {
	prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
	if err != nil || prefix == prefix.Masked() {
		return text
	}
	r, err := pool.ParseRange(prefix.Masked().String())
	if err != nil {
		return text
	}
	return fmt.Sprintf("%s-%s", prefix.Addr(), r.Last)
}

func (c *collector) purelbAgent(o object, spec purelbAgent) {
	for _, field := range []struct{ name, value string }{
		{"localint", spec.Local.LocalInt}, {"localInterface", spec.Local.LocalInterface},
	} {
		if field.value != "" && field.value != "default" {
			c.note(o, "spec.local."+field.name, field.value, "is set per pool in Fairlead",
				"put the names of the interfaces into spec.interfaces of the pools")
		}
	}
	if len(spec.Local.Interfaces) > 0 {
		c.note(o, "spec.local.interfaces", fmt.Sprint(spec.Local.Interfaces), "is set per pool in Fairlead",
			"put them into spec.interfaces of the pools, if the interface with the VIP's network is not the one")
	}
}
