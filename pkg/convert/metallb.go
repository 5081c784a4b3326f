package convert

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

const groupMetalLB = "metallb.io"

// onlyLayer2 is what BGP becomes.
const onlyLayer2 = "has no equivalent: Fairlead announces by ARP and NDP only"

// kindsMetalLB are the resources that say something: the others report states.
var kindsMetalLB = []string{"IPAddressPool", "AddressPool", "L2Advertisement",
	"BGPPeer", "BGPAdvertisement", "BFDProfile", "Community"}

func ownsMetalLB(o object) bool {
	return o.group() == groupMetalLB && slices.Contains(kindsMetalLB, o.Kind) || isMetalLBConfig(o)
}

// metallbPool is an IPAddressPool (metallb.io/v1beta1).
type metallbPool struct {
	Addresses         []string           `json:"addresses"`
	AutoAssign        *bool              `json:"autoAssign"`
	AvoidBuggyIPs     bool               `json:"avoidBuggyIPs"`
	ServiceAllocation *metallbAllocation `json:"serviceAllocation"`
	// Protocol is a field of AddressPool, its forerunner.
	Protocol string `json:"protocol"`
}

type metallbAllocation struct {
	Priority           int                    `json:"priority"`
	Namespaces         []string               `json:"namespaces"`
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors"`
	ServiceSelectors   []metav1.LabelSelector `json:"serviceSelectors"`
}

// metallb is one conversion of MetalLB's resources.
type metallb struct {
	*collector
	l2         []l2Advertisement
	advertised bool // the input has advertisements: a pool without one is told so
	priority   map[int]int32
}

func convertMetalLB(c *collector, objects []object) {
	m := &metallb{collector: c}
	pools := map[string]metallbPool{} // by object
	var priorities []int
	for _, o := range sortedByName(objects) {
		switch o.Kind {
		case "IPAddressPool":
			spec, ok := decode[metallbPool](c, o, "spec", o.Spec)
			if !ok {
				continue
			}
			pools[o.String()] = spec
			if a := spec.ServiceAllocation; a != nil {
				priorities = append(priorities, a.Priority)
			}
		case "L2Advertisement":
			m.advertised = true
			m.readL2(o)
		case "BGPAdvertisement":
			m.advertised = true
			c.note(o, "", "", onlyLayer2, "addresses that are announced so need to be of a network of the nodes")
		case "BGPPeer", "BFDProfile", "Community":
			c.note(o, "", "", onlyLayer2, "leave it out")
		}
	}
	m.priority = higherFirst(priorities)
	for _, o := range objects {
		switch o.Kind {
		case "IPAddressPool":
			if spec, ok := pools[o.String()]; ok {
				m.pool(o, spec)
			}
		case "AddressPool":
			if spec, ok := decode[metallbPool](c, o, "spec", o.Spec); ok {
				m.oldPool(o, "spec", o.Metadata.Name, spec)
				c.others(o, "spec", o.Spec, "protocol", "addresses", "autoAssign", "avoidBuggyIPs")
			}
		case "ConfigMap":
			m.config(o)
		}
	}
	m.noteMissing(objects)
}

// priorityStep leaves room between two priorities for a pool to come.
const priorityStep = 10

// higherFirst maps MetalLB's priorities, of which the lowest comes first and 0 (unset) last, to Fairlead's, of which the highest
// comes first.
func higherFirst(priorities []int) map[int]int32 {
	set := slices.DeleteFunc(slices.Clone(priorities), func(p int) bool { return p <= 0 })
	slices.Sort(set)
	set = slices.Compact(set)
	out := map[int]int32{}
	for i, p := range set {
		out[p] = int32(min((len(set)-i)*priorityStep, maxPriority))
	}
	return out
}

// maxPriority of an IPPool, as its schema has it.
const maxPriority = 1_000_000

// pool converts an IPAddressPool and what the advertisements say about it.
func (m *metallb) pool(o object, spec metallbPool) {
	d := draft{from: o, name: o.Metadata.Name, path: "spec", addresses: spec.Addresses, addressField: "addresses", limitField: "serviceAllocation",
		spec: v1alpha1.IPPoolSpec{AvoidBuggyIPs: spec.AvoidBuggyIPs, AutoAssign: unlessTrue(spec.AutoAssign)}}
	m.limits(o, d.spec.AutoAssign, spec.ServiceAllocation, &d.spec)
	m.announce(o, &d.spec)
	m.addPool(d)
	m.others(o, "spec", o.Spec, "addresses", "autoAssign", "avoidBuggyIPs", "serviceAllocation")
}

// limits converts serviceAllocation.
func (m *metallb) limits(o object, autoAssign *bool, from *metallbAllocation, to *v1alpha1.IPPoolSpec) {
	if from == nil {
		return
	}
	const path = "spec.serviceAllocation"
	if from.Priority < 0 {
		m.note(o, path+".priority", fmt.Sprint(from.Priority), "is negative, where MetalLB has no order",
			"set spec.priority of the pool; the highest comes first")
	}
	to.Priority = m.priority[from.Priority]
	to.Namespaces = from.Namespaces
	to.NamespaceSelectors = from.NamespaceSelectors
	to.ServiceSelectors = from.ServiceSelectors
	if autoAssign == nil && len(from.Namespaces)+len(from.NamespaceSelectors)+len(from.ServiceSelectors) == 0 {
		// MetalLB gives addresses of such a pool to Services that it is pinned to, and it is pinned to none.
		to.AutoAssign = new(bool)
		m.note(o, path, "", "names no Services, so that MetalLB gives addresses of the pool only when asked for it",
			"it becomes autoAssign: false; remove that if every Service may have them")
	}
	var text struct {
		ServiceAllocation json.RawMessage `json:"serviceAllocation"`
	}
	if json.Unmarshal(o.Spec, &text) == nil {
		m.others(o, path, text.ServiceAllocation, "priority", "namespaces", "namespaceSelectors", "serviceSelectors")
	}
}

// oldPool converts an AddressPool or one of the ConfigMap, which say themselves how they are announced.
func (m *metallb) oldPool(o object, path, name string, spec metallbPool) {
	if p := spec.Protocol; p != "" && !strings.EqualFold(p, "layer2") {
		m.note(o, path+".protocol", p, onlyLayer2, "the addresses need to be of a network of the nodes")
	}
	d := draft{from: o, name: name, path: path, addresses: spec.Addresses, addressField: "addresses",
		spec: v1alpha1.IPPoolSpec{AvoidBuggyIPs: spec.AvoidBuggyIPs, AutoAssign: unlessTrue(spec.AutoAssign)}}
	m.addPool(d)
}

// unlessTrue leaves out what is the default of an IPPool.
func unlessTrue(b *bool) *bool {
	if b == nil || *b {
		return nil
	}
	return b
}
