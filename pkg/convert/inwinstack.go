package convert

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

const groupInwinSTACK = "inwinstack.com"

func ownsInwinSTACK(o object) bool {
	return o.group() == groupInwinSTACK && slices.Contains([]string{"Pool", "IP"}, o.Kind)
}

// inwinPool is the spec of a Pool, with the fields of all its versions: v1alpha1 has ipRange alone, the first v1 has address
// and autoAssignToNamespace for what became addresses and assignToNamespace.
type inwinPool struct {
	IPRange   string   `json:"ipRange"`
	Address   string   `json:"address"`
	Addresses []string `json:"addresses"`

	AutoAssignToNamespace bool     `json:"autoAssignToNamespace"`
	AssignToNamespace     bool     `json:"assignToNamespace"`
	IgnoreNamespaces      []string `json:"ignoreNamespaces"`

	AvoidBuggyIPs   bool     `json:"avoidBuggyIPs"`
	AvoidGatewayIPs bool     `json:"avoidGatewayIPs"`
	FilterIPs       []string `json:"filterIPs"`
}

// inwinIP is the spec of an IP, with the fields of all its versions.
type inwinIP struct {
	PoolName      string `json:"poolName"`
	WantedAddress string `json:"wantedAddress"`
	WantAddress   string `json:"wantAddress"`

	UpdateNamespace      bool `json:"updateNamespace"`
	MarkNamespaceRefresh bool `json:"markNamespaceRefresh"`
}

type inwinIPStatus struct {
	Address string `json:"address"`
}

func convertInwinSTACK(c *collector, objects []object) {
	names := map[string]string{} // of the pools there, here
	for _, o := range objects {
		if o.Kind != "Pool" {
			continue
		}
		if spec, ok := decode[inwinPool](c, o, "spec", o.Spec); ok {
			c.inwinPool(o, spec, names)
		}
	}
	for _, o := range objects {
		if o.Kind != "IP" {
			continue
		}
		spec, ok := decode[inwinIP](c, o, "spec", o.Spec)
		status, okStatus := decode[inwinIPStatus](c, o, "status", o.Status)
		if ok && okStatus {
			c.inwinIP(o, spec, status.Address, names)
		}
	}
}

func (c *collector) inwinPool(o object, from inwinPool, names map[string]string) {
	c.others(o, "spec", o.Spec, "ipRange", "address", "addresses", "autoAssignToNamespace", "assignToNamespace",
		"ignoreNamespaces", "ignoreNamespaceAnnotation", "avoidBuggyIPs", "avoidGatewayIPs", "filterIPs")
	d := draft{from: o, name: o.Metadata.Name, path: "spec", addresses: from.Addresses, addressField: "addresses",
		exclude: from.FilterIPs, excludeField: "filterIPs", limitField: "ignoreNamespaces",
		spec: v1alpha1.IPPoolSpec{AvoidBuggyIPs: from.AvoidBuggyIPs, AvoidGatewayIPs: from.AvoidGatewayIPs}}
	for _, older := range []struct{ field, text string }{{"address", from.Address}, {"ipRange", from.IPRange}} {
		if older.text != "" && len(d.addresses) == 0 {
			d.addresses, d.addressField = strings.Split(older.text, ","), older.field
		}
	}
	// v1alpha1 gives to every namespace, later versions to none unless told to.
	if !from.AssignToNamespace && !from.AutoAssignToNamespace && from.IPRange == "" {
		d.spec.AutoAssign = new(bool)
	}
	if ignored := unique(from.IgnoreNamespaces); len(ignored) > 0 {
		d.spec.NamespaceSelectors = []metav1.LabelSelector{{MatchExpressions: []metav1.LabelSelectorRequirement{
			{Key: labelNamespace, Operator: metav1.LabelSelectorOpNotIn, Values: ignored},
		}}}
	}
	if name, ok := c.addPool(d); ok {
		names[o.Metadata.Name] = name
	}
}

// inwinIP makes a claim of an IP. It keeps the address that the IP wants or has: what uses it must not notice.
func (c *collector) inwinIP(o object, from inwinIP, has string, names map[string]string) {
	c.others(o, "spec", o.Spec, "poolName", "wantedAddress", "wantAddress", "updateNamespace", "markNamespaceRefresh")
	if from.UpdateNamespace || from.MarkNamespaceRefresh {
		c.note(o, "spec", "", "asks for the address as an annotation of the namespace, which has no equivalent",
			"read spec.address of the VIP")
	}
	claim := v1alpha1.VIP{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "VIP"},
		Spec:     v1alpha1.VIPSpec{Pool: from.PoolName},
	}
	for _, want := range []struct{ field, value string }{
		{"spec.wantedAddress", from.WantedAddress}, {"spec.wantAddress", from.WantAddress}, {"status.address", has},
	} {
		if want.value == "" {
			continue
		}
		addr, err := netip.ParseAddr(want.value)
		if err != nil || addr.Zone() != "" || addr.Is4In6() {
			c.note(o, want.field, want.value, "is not an IP address", "the claim will get any address of its pool")
			continue
		}
		claim.Spec.Address = addr.String()
		break
	}
	if name, ok := names[from.PoolName]; ok {
		claim.Spec.Pool = name
	} else if from.PoolName != "" {
		c.note(o, "spec.poolName", from.PoolName, "is not in the input", "make an IPPool of that name, or correct spec.pool")
	}
	claim.Name = c.claimName(o)
	c.result.Claims = append(c.result.Claims, claim)
}

// claimName is a name for a VIP that is not an address: those are reservations, and the controller's own.
func (c *collector) claimName(o object) string {
	want, namespace := o.Metadata.Name, o.Metadata.Namespace
	problem := ""
	if _, err := source.ParseVIPName(objectName(want)); err == nil {
		want, problem = "claim-"+want, "is an address, which would make the VIP a reservation"
	}
	if namespace != "" && c.claims[want] {
		want, problem = want+"-"+namespace, "is the name of another one too, and VIPs have no namespace"
	}
	name, changed := c.free(c.claims, want)
	if problem = cmp.Or(problem, changed); problem != "" {
		c.note(o, "", o.Metadata.Name, problem, "it becomes VIP "+name)
	}
	return name
}
