package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

// The limits of an IPPool's lists, as its schema has them (manifests/crds).
const (
	maxRanges        = 256
	maxNamespaces    = 256
	maxSelectors     = 16
	maxInterfaces    = 16
	maxInterfaceName = 15
)

// labelNamespace is on every namespace, with its name (KEP-2161).
const labelNamespace = "kubernetes.io/metadata.name"

// draft is a pool as its source writes it.
type draft struct {
	from object
	name string
	// path of the fields that the pool is made of, for notes, such as "spec".
	path string
	// addresses and exclude as the source writes them; addressField and excludeField are what it calls them.
	addresses, exclude         []string
	addressField, excludeField string
	// limitField is what says who may have the addresses.
	limitField string
	// spec is the rest.
	spec v1alpha1.IPPoolSpec
}

func (d draft) field(name string) string { return d.path + "." + name }

// addPool checks a draft and takes it up, under another name if its own is taken or no name. A pool that would be open to more
// than the source says is left out, with a note, and ok is false.
func (c *collector) addPool(d draft) (name string, ok bool) {
	spec := d.spec
	spec.Addresses = c.ranges(d, d.addressField, d.addresses)
	spec.Exclude = c.ranges(d, d.excludeField, d.exclude)
	spec.Interfaces = c.interfaces(d)
	spec.Namespaces = unique(spec.Namespaces)
	if len(spec.Addresses) == 0 {
		c.note(d.from, d.field(d.addressField), "", "has no address that can be used", "the pool is left out")
		return "", false
	}
	if problem := tooMuch(spec); problem != "" {
		c.note(d.from, d.path, "", problem, "the pool is left out; make several of it by hand")
		return "", false
	}
	if err := checkLimits(spec); err != nil {
		c.note(d.from, d.field(d.limitField), "", err.Error(), "the pool is left out; correct it")
		return "", false
	}
	name, problem := c.free(c.pools, d.name)
	if problem != "" {
		c.note(d.from, "", d.name, problem, fmt.Sprintf("it becomes pool %s; Services that ask for it need the new name", name))
	}
	c.result.Pools = append(c.result.Pools, v1alpha1.IPPool{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.SchemeGroupVersion.String(), Kind: "IPPool"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       spec,
	})
	return name, true
}

// ranges reads addresses and notes those that cannot be used.
func (c *collector) ranges(d draft, field string, texts []string) []v1alpha1.AddressRange {
	var ranges []pool.Range
	var out []v1alpha1.AddressRange
	for _, text := range texts {
		r, err := pool.ParseRange(network(text))
		if problem := (*pool.ParseError)(nil); errors.As(err, &problem) {
			c.note(d.from, d.field(field), text, problem.Problem, problem.Remedy)
			continue
		}
		ranges = append(ranges, r)
		if entry := v1alpha1.AddressRange(spell(text, r)); !slices.Contains(out, entry) {
			out = append(out, entry)
		}
	}
	if len(out) <= maxRanges {
		return out
	}
	// Entries that touch are as good as one.
	out = out[:0]
	for _, r := range pool.NewSet(ranges...).Ranges() {
		out = append(out, v1alpha1.AddressRange(r.String()))
	}
	return out
}

// network clears the bits of a CIDR that follow its prefix: the others take any address of a network for the network.
func network(text string) string {
	if prefix, err := netip.ParsePrefix(strings.TrimSpace(text)); err == nil {
		return prefix.Masked().String()
	}
	return text
}

// spell writes a range as its source did, a CIDR or first-last, but in canonical form.
func spell(text string, r pool.Range) string {
	if strings.Contains(text, "-") && r.First != r.Last {
		return r.First.String() + "-" + r.Last.String()
	}
	return r.String()
}

// interfaces of a draft that Linux can have.
func (c *collector) interfaces(d draft) []string {
	var out []string
	for _, name := range d.spec.Interfaces {
		if name == "" || len(name) > maxInterfaceName {
			c.note(d.from, d.field("interfaces"), name, "is not the name of an interface",
				fmt.Sprintf("it is left out; write 1 to %d characters", maxInterfaceName))
			continue
		}
		out = append(out, name)
	}
	return out
}

// tooMuch says which list of a pool is longer than its schema allows, or "".
func tooMuch(spec v1alpha1.IPPoolSpec) string {
	for _, list := range []struct {
		name      string
		size, max int
	}{
		{"ranges of addresses", len(spec.Addresses), maxRanges},
		{"ranges to exclude", len(spec.Exclude), maxRanges},
		{"namespaces", len(spec.Namespaces), maxNamespaces},
		{"namespace selectors", len(spec.NamespaceSelectors), maxSelectors},
		{"service selectors", len(spec.ServiceSelectors), maxSelectors},
		{"interfaces", len(spec.Interfaces), maxInterfaces},
	} {
		if list.size > list.max {
			return fmt.Sprintf("has %d %s, and a pool may have %d", list.size, list.name, list.max)
		}
	}
	return ""
}

// checkLimits looks for a name or selector that nobody can have or match.
func checkLimits(spec v1alpha1.IPPoolSpec) error {
	for _, namespace := range spec.Namespaces {
		if len(validation.IsDNS1123Label(namespace)) > 0 {
			return fmt.Errorf("names %q, which is not the name of a namespace", namespace)
		}
	}
	for _, selector := range slices.Concat(spec.NamespaceSelectors, spec.ServiceSelectors) {
		if _, err := metav1.LabelSelectorAsSelector(&selector); err != nil {
			return fmt.Errorf("has a selector that matches nothing: %w", err)
		}
	}
	return nil
}

// unique keeps the first of equal values: the lists are sets to the API server.
func unique(values []string) []string {
	var out []string
	for _, v := range values {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// free makes a name that an object may have and that is not taken, and takes it. If it is another one, problem says why.
func (c *collector) free(taken map[string]bool, want string) (name, problem string) {
	name = objectName(want)
	switch {
	case name != want:
		problem = "cannot be the name of an object"
	case taken[name]:
		problem = "is the name of another one too"
	}
	for i, base := 1, name; taken[name]; i++ {
		if name = base + "-" + c.balancer; i > 1 {
			name = fmt.Sprintf("%s-%s-%d", base, c.balancer, i)
		}
	}
	taken[name] = true
	return name, problem
}

// maxName leaves room in the name of an object (253 characters) for what free appends.
const maxName = 200

// objectName is the nearest name that an object may have (RFC 1123 subdomain).
func objectName(name string) string {
	if len(validation.IsDNS1123Subdomain(name)) == 0 && len(name) <= maxName {
		return name
	}
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			r = '-'
		}
		b.WriteRune(r)
	}
	name = strings.Trim(b.String()[:min(b.Len(), maxName)], "-")
	if name == "" {
		return "unnamed"
	}
	return name
}

// noteOverlaps notes pools that share addresses: Fairlead uses the older one alone.
func (c *collector) noteOverlaps() {
	sets := make([]pool.Set, len(c.result.Pools))
	for i, p := range c.result.Pools {
		specs := make([]string, len(p.Spec.Addresses))
		for j, entry := range p.Spec.Addresses {
			specs[j] = string(entry)
		}
		sets[i], _ = pool.Parse(specs) // read once already
		for j := range i {
			if shared, overlap := pool.Overlap(sets[i], sets[j]); overlap {
				c.result.Notes = append(c.result.Notes, Note{"IPPool/" + p.Name, "spec.addresses", shared.Common.String(),
					fmt.Sprintf("is also of pool %s, and Fairlead then uses the older pool alone", c.result.Pools[j].Name),
					"take the addresses out of one of them"})
			}
		}
	}
}
