package source

import (
	"cmp"
	"slices"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// SortFrontends puts frontends in the one order in which they are written, by port and protocol, so that an equal list is
// equal text.
func SortFrontends(frontends []v1alpha1.Frontend) {
	slices.SortFunc(frontends, func(a, b v1alpha1.Frontend) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
}
