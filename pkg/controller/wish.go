package controller

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
)

// asker is who asks for an address: a Service or, without a namespace, a claim (a VIP object of a free name).
type asker = types.NamespacedName

// isClaim tells claims from Services.
func isClaim(a asker) bool { return a.Namespace == "" }

func nameOf(a asker) string {
	if isClaim(a) {
		return "claim " + a.Name
	}
	return "Service " + a.String()
}

// need is one address that is lacked.
type need struct {
	family pool.Family
	addr   netip.Addr // asked for; invalid: any
	pool   string     // asked for; "": any that assigns by itself
	// published is an address that the status of the Service shows, and that is to be had again if it is free.
	published netip.Addr
	// replaces says that the asker has another address of the family, which it keeps if this need cannot be met.
	replaces bool
	// addrField and poolField are where addr and pool were asked for, for messages.
	addrField, poolField string
}

// wish is all that a Service or a claim lacks.
type wish struct {
	asker   asker
	created time.Time // of the object: the older one is served first
	needs   []need    // at most one for each family
	all     bool      // needs that replace nothing are met together or not at all
	// labels of the Service, which pools may select.
	labels map[string]string
	// families that the Service is to have, those that it has already too.
	families []pool.Family
	// frontends that the Service will put on the address; a claim puts none.
	frontends []v1alpha1.Frontend
	// told is why it waits, as it was told.
	told string
}

// without is the wish for what grants leave open.
func (w *wish) without(grants []grant) *wish {
	rest := *w
	rest.needs = slices.DeleteFunc(slices.Clone(w.needs), func(n need) bool {
		return slices.ContainsFunc(grants, func(g grant) bool { return g.family == n.family })
	})
	return &rest
}

// shareKey is by what the wish shares addresses, "" if it shares none.
func (w *wish) shareKey() string {
	if len(w.frontends) == 0 || w.frontends[0].Share == nil {
		return ""
	}
	return w.frontends[0].Share.Key
}

// compareAge orders wishes by age of the object.
func compareAge(a, b *wish) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.asker.Namespace, b.asker.Namespace), cmp.Compare(a.asker.Name, b.asker.Name))
}

// grant is an address reserved for a need.
type grant struct {
	family pool.Family
	addr   netip.Addr
	pool   string // "": the address is in none
	joins  bool   // the VIP object may be there already: others share it, or it was asked for
}

// failure tells why a need cannot be met now.
type failure struct {
	family pool.Family
	result string // one of the results of the metric
	text   string // for the user: what was asked, what was found, what to do
}

// texts are all failures as they are told.
func texts(failures []failure) string {
	all := make([]string, 0, len(failures))
	for _, f := range failures {
		all = append(all, f.text)
	}
	return strings.Join(all, "; ")
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
