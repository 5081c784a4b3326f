package convert

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// Result is what an input becomes.
type Result struct {
	// Pools in the order of the load balancers and, within one, of the input.
	Pools []v1alpha1.IPPool
	// Claims of addresses: VIPs whose names are not addresses.
	Claims []v1alpha1.VIP
	// Map of addresses to Services, or nil.
	Map *corev1.ConfigMap
	// Notes on what was left out or changed.
	Notes []Note
}

// Empty reports whether nothing of the input was converted.
func (r Result) Empty() bool { return len(r.Pools) == 0 && len(r.Claims) == 0 && r.Map == nil }

// balancer is a load balancer whose resources are known.
type balancer struct {
	// name tells its pools from those of another that have the same name.
	name string
	owns func(object) bool
	// convert gets all its objects at once: some say more about others.
	convert func(*collector, []object)
}

var balancers = []balancer{
	{"metallb", ownsMetalLB, convertMetalLB},
	{"kube-vip", ownsKubeVIP, convertKubeVIP},
	{"purelb", ownsPureLB, convertPureLB},
	{"inwinstack", ownsInwinSTACK, convertInwinSTACK},
	{"keepalived", ownsKeepalived, convertKeepalived},
}

// Convert converts all inputs together, since one may speak of the objects of another. An error means that an input cannot be
// read, and the Result is then empty; what can be read and not be converted is a Note.
func Convert(inputs ...Input) (Result, error) {
	var objects []object
	for _, input := range inputs {
		found, err := read(input)
		if err != nil {
			return Result{}, err
		}
		objects = append(objects, found...)
	}
	c := &collector{pools: map[string]bool{}, claims: map[string]bool{}}
	objects = c.once(objects)
	for _, b := range balancers {
		var own []object
		objects = slices.DeleteFunc(objects, func(o object) bool {
			if b.owns(o) {
				own = append(own, o)
				return true
			}
			return false
		})
		if len(own) > 0 {
			c.balancer = b.name
			b.convert(c, own)
		}
	}
	if len(c.unreadable) > 0 {
		return Result{}, errors.Join(c.unreadable...)
	}
	c.noteUnknown(objects)
	c.noteOverlaps()
	return c.result, nil
}

// collector gathers the result.
type collector struct {
	result Result
	// balancer whose objects are being converted.
	balancer string
	// pools and claims are the names that are taken.
	pools, claims map[string]bool
	// unreadable are objects that are not what their kind says.
	unreadable []error
}

func (c *collector) note(o object, field, value, problem, remedy string) {
	c.result.Notes = append(c.result.Notes, Note{o.String(), field, value, problem, remedy})
}

// once drops objects that the input has already: two files may list the same one.
func (c *collector) once(objects []object) []object {
	type key struct{ group, kind, namespace, name string }
	seen := map[key]object{}
	return slices.DeleteFunc(objects, func(o object) bool {
		k := key{o.group(), o.Kind, o.Metadata.Namespace, o.Metadata.Name}
		first, again := seen[k]
		if !again {
			seen[k] = o
			return false
		}
		if !bytes.Equal(first.Spec, o.Spec) || !bytes.Equal(first.Data, o.Data) {
			c.note(o, "", "", "is in the input twice", "the first is converted; leave out the other")
		}
		return true
	})
}

// noteUnknown notes each kind that nobody knows, once.
func (c *collector) noteUnknown(objects []object) {
	count := map[string]int{}
	for _, o := range objects {
		count[o.Kind]++
	}
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		problem := "not converted: kind " + kind
		if n := count[kind]; n > 1 {
			problem += fmt.Sprintf(" (%d objects)", n)
		}
		c.result.Notes = append(c.result.Notes, Note{Problem: problem})
	}
}

// others notes the fields of an object that are set and not among the known ones.
func (c *collector) others(o object, path string, text json.RawMessage, known ...string) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(text, &fields) != nil {
		return // decode says so
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := string(fields[name])
		if slices.Contains(known, name) || slices.Contains([]string{"null", `""`, "false", "0", "[]", "{}"}, value) {
			continue
		}
		c.note(o, path+"."+name, strings.Trim(value, `"`), "is not converted", "see kubectl explain ippools.spec for what a pool can have")
	}
}

// fail ends the conversion: what is not as its kind says was never in a cluster.
func (c *collector) fail(o object, path string, err error) {
	c.unreadable = append(c.unreadable, fmt.Errorf("read %s: %s: %w", o, path, err))
}

// decode reads a part of an object. What has the wrong shape ends the conversion, and ok is false.
func decode[T any](c *collector, o object, path string, text json.RawMessage) (value T, ok bool) {
	if len(text) == 0 {
		return value, true
	}
	if err := json.Unmarshal(text, &value); err != nil {
		c.fail(o, path, err)
		return value, false
	}
	return value, true
}

// sortedByName makes the result the same in whatever order an API server lists objects.
func sortedByName(objects []object) []object {
	return slices.SortedStableFunc(slices.Values(objects), func(a, b object) int {
		return cmp.Or(cmp.Compare(a.Metadata.Name, b.Metadata.Name), cmp.Compare(a.Metadata.Namespace, b.Metadata.Namespace))
	})
}
