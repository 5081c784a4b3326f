package speaker

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/netif"
)

// Cleanup removes what speakers left on this node and returns a line for each thing removed. What is ours is what the
// nftables table lists; the table goes last, so that Cleanup can be repeated after an error. Sysctls are for package host to
// put back.
func Cleanup(ctx context.Context, table Table, servers Servers, addresses Addresses) (removed []string, err error) {
	record, err := table.Owned(ctx)
	if err != nil {
		return nil, err
	}
	owned := func(addr netip.Addr) bool { return slices.Contains(record, addr) }
	bound, err := addresses.Bound()
	if err != nil {
		return nil, err
	}
	_, unbind := netif.Diff(nil, bound, owned)
	failed := addresses.Unbind(unbind)
	for _, binding := range unbind {
		if failed[binding.Addr] == nil {
			removed = append(removed, "address "+binding.Addr.String()+" from "+binding.Interface)
		}
	}
	if len(failed) > 0 {
		return removed, errors.Join(slices.Collect(maps.Values(failed))...)
	}
	if changed, err := addresses.Receive(nil); err != nil {
		return removed, err
	} else if changed > 0 {
		removed = append(removed, "device fairlead with the VIPs that this node served as a backend")
	}
	have, err := servers.Servers()
	if err != nil {
		return removed, err
	}
	for _, change := range ipvs.Diff(nil, have, owned) {
		if _, err := servers.Apply([]ipvs.Change{change}); err != nil {
			return removed, err
		}
		removed = append(removed, "IPVS service "+netip.AddrPortFrom(change.Frontend.Addr, change.Frontend.Port).String()+
			"/"+string(change.Frontend.Proto))
	}
	if err := table.Delete(ctx); err != nil {
		return removed, err
	}
	return append(removed, "nftables table inet fairlead"), nil
}
