package convert

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// l2Advertisement says that some nodes announce some pools on some interfaces. Advertisements add up: a node may announce what
// one of them lets it.
type l2Advertisement struct {
	from object
	spec l2Spec
	// poolSelectors select pools by their labels.
	poolSelectors []labels.Selector
}

// l2Spec is that of an L2Advertisement (metallb.io/v1beta1). Lists that are empty mean all.
type l2Spec struct {
	IPAddressPools         []string               `json:"ipAddressPools"`
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors"`
	NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors"`
	Interfaces             []string               `json:"interfaces"`
}

func (m *metallb) readL2(o object) {
	spec, ok := decode[l2Spec](m.collector, o, "spec", o.Spec)
	if !ok {
		return
	}
	m.others(o, "spec", o.Spec, "ipAddressPools", "ipAddressPoolSelectors", "nodeSelectors", "interfaces")
	if len(spec.NodeSelectors) == 0 {
		spec.NodeSelectors = nil // [] and none are equal
	}
	l2 := l2Advertisement{from: o, spec: spec}
	for i := range spec.IPAddressPoolSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&spec.IPAddressPoolSelectors[i])
		if err != nil {
			m.fail(o, "spec.ipAddressPoolSelectors", err)
			return
		}
		l2.poolSelectors = append(l2.poolSelectors, selector)
	}
	for i := range spec.NodeSelectors {
		if _, err := metav1.LabelSelectorAsSelector(&spec.NodeSelectors[i]); err != nil {
			m.fail(o, "spec.nodeSelectors", err)
			return
		}
	}
	m.l2 = append(m.l2, l2)
}

// covers reports whether the advertisement is about a pool.
func (a l2Advertisement) covers(pool object) bool {
	if len(a.spec.IPAddressPools)+len(a.poolSelectors) == 0 {
		return true
	}
	return slices.Contains(a.spec.IPAddressPools, pool.Metadata.Name) ||
		slices.ContainsFunc(a.poolSelectors, func(s labels.Selector) bool { return s.Matches(labels.Set(pool.Metadata.Labels)) })
}

// letsAll reports whether the advertisement lets a node do all that another lets it.
func (a l2Advertisement) letsAll(other l2Advertisement) bool {
	if len(a.spec.Interfaces) > 0 && (len(other.spec.Interfaces) == 0 || !subset(other.spec.Interfaces, a.spec.Interfaces)) {
		return false
	}
	if len(a.spec.NodeSelectors) == 0 {
		return true
	}
	return len(other.spec.NodeSelectors) > 0 && !slices.ContainsFunc(other.spec.NodeSelectors, func(s metav1.LabelSelector) bool {
		return !slices.ContainsFunc(a.spec.NodeSelectors, func(mine metav1.LabelSelector) bool {
			return termsOf(s).implies(termsOf(mine))
		})
	})
}

func subset(values, of []string) bool {
	return !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(of, v) })
}

// announce converts what the advertisements say about a pool.
func (m *metallb) announce(o object, spec *v1alpha1.IPPoolSpec) {
	var l2 []l2Advertisement
	for _, a := range m.l2 {
		if !a.covers(o) || slices.ContainsFunc(l2, func(b l2Advertisement) bool { return b.letsAll(a) }) {
			continue
		}
		l2 = append(slices.DeleteFunc(l2, a.letsAll), a)
	}
	if len(l2) == 0 {
		if m.advertised {
			m.note(o, "", "", "is covered by no L2Advertisement of the input, so that MetalLB does not announce it by ARP and NDP",
				"Fairlead will; leave the pool out if that is not what you want")
		}
		return
	}
	nodes, interfaces, exact := together(l2)
	if !exact {
		var names []string
		for _, a := range l2 {
			names = append(names, a.from.Metadata.Name)
		}
		m.note(o, "", "", "is covered by L2Advertisements that differ in nodes and interfaces ("+strings.Join(names, ", ")+")",
			fmt.Sprintf("the pool keeps what %s says; make a pool for each of the others", names[0]))
	}
	spec.Interfaces = interfaces
	if len(interfaces) > 1 {
		m.note(o, "spec.interfaces", strings.Join(interfaces, ","), "are several, and MetalLB answers on all of them",
			"Fairlead binds a VIP to the first that the node has; put the best first")
	}
	if spec.NodeSelector, exact = anyOf(nodes); !exact {
		m.note(l2[0].from, "spec.nodeSelectors", "", "are several that one selector cannot say, for pool "+o.Metadata.Name,
			"the pool keeps the first; give all these nodes one label and set spec.nodeSelector to it")
	}
}

// together adds advertisements up. Where nodes and interfaces both differ, it keeps the first, and exact is false.
func together(l2 []l2Advertisement) (nodes []metav1.LabelSelector, interfaces []string, exact bool) {
	first := l2[0].spec
	sameNodes, sameInterfaces := true, true
	for _, a := range l2[1:] {
		sameNodes = sameNodes && reflect.DeepEqual(a.spec.NodeSelectors, first.NodeSelectors)
		sameInterfaces = sameInterfaces && subset(a.spec.Interfaces, first.Interfaces) && subset(first.Interfaces, a.spec.Interfaces)
	}
	nodes, interfaces = first.NodeSelectors, unique(first.Interfaces)
	if !sameNodes && !sameInterfaces {
		return nodes, interfaces, false
	}
	// One of the two lists is the same everywhere, and the other cannot be empty: an empty one lets all.
	for _, a := range l2[1:] {
		if !sameNodes {
			nodes = append(slices.Clone(nodes), a.spec.NodeSelectors...)
		}
		interfaces = unique(append(interfaces, a.spec.Interfaces...))
	}
	return nodes, interfaces, true
}

// noteMissing notes advertisements of pools that the input does not have.
func (m *metallb) noteMissing(objects []object) {
	for _, a := range m.l2 {
		for _, name := range a.spec.IPAddressPools {
			if !slices.ContainsFunc(objects, func(o object) bool { return o.Kind == "IPAddressPool" && o.Metadata.Name == name }) {
				m.note(a.from, "spec.ipAddressPools", name, "is not in the input", "convert it together with the IPAddressPool")
			}
		}
	}
}
