package plan

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/model"
)

// isolatedHost are the addresses by which this node itself comes to its own isolated datapath.
func (s *Snapshot) isolatedHost(vip netip.Addr) (out []netip.Prefix) {
	for _, prefix := range model.IsolatedHosts {
		if s.Isolated && prefix.Addr().Is4() == vip.Is4() {
			out = append(out, prefix)
		}
	}
	return out
}

// ownWithin reports whether a prefix has an address of this node.
func (s *Snapshot) ownWithin(prefix netip.Prefix) bool {
	return slices.ContainsFunc(s.addresses, prefix.Contains)
}
