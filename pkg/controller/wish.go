package controller

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/pool"
)

// need is one address that a Service lacks.
type need struct {
	family pool.Family
	addr   netip.Addr // asked for; invalid: any
	pool   string     // asked for; "": any that assigns by itself
	// published is an address that the status of the Service shows, and that is to be had again if it is free.
	published netip.Addr
	// replaces says that the Service has another address of the family, which it keeps if this need cannot be met.
	replaces bool
	// field is where addr was asked for, for messages.
	field string
}

// wish is all that a Service lacks.
type wish struct {
	service types.NamespacedName
	created time.Time // of the Service: the older one is served first
	needs   []need    // at most one for each family
	all     bool      // needs that replace nothing are met together or not at all
}

// without is the wish for what grants leave open.
func (w *wish) without(grants []grant) *wish {
	rest := *w
	rest.needs = slices.DeleteFunc(slices.Clone(w.needs), func(n need) bool {
		return slices.ContainsFunc(grants, func(g grant) bool { return g.family == n.family })
	})
	return &rest
}

// compareAge orders wishes by age of the Service.
func compareAge(a, b *wish) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.service.Namespace, b.service.Namespace),
		cmp.Compare(a.service.Name, b.service.Name))
}

// grant is an address reserved for a need.
type grant struct {
	family pool.Family
	addr   netip.Addr
	pool   string
}

// failure tells why a need cannot be met now.
type failure struct {
	family pool.Family
	result string // one of the results of the metric
	text   string // for the user: what was asked, what was found, what to do
}

// Results of an allocation: values of the label "result" of fairlead_controller_allocations_total.
const (
	resultAllocated = "allocated"
	resultExhausted = "exhausted"
	resultNoPool    = "no_pool"
	resultNotInPool = "not_in_pool"
	resultTaken     = "taken"
	resultInvalid   = "invalid"
)
