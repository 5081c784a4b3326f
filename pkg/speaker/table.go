package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/nft"
)

// guarded is the table while servers change: VIPs that leave are in it until their servers are gone, and a port that opens
// on a bound VIP stays closed until its server is there, because the host itself may listen on it.
func (s *step) guarded(have []model.Binding) nft.State {
	state := s.tableState(s.leaving)
	if s.applied == nil {
		return state // a restart: what is open was opened by an earlier speaker
	}
	opening := map[model.Frontend]bool{}
	for _, pair := range changed(s.applied.Servers, s.want.Servers) {
		if !pair.had && announces(have, pair.frontend.Addr) && !receives(s.want, pair.frontend) {
			opening[pair.frontend] = true
		}
	}
	if len(opening) > 0 {
		state.Frontends = slices.DeleteFunc(slices.Clone(state.Frontends), func(f model.Frontend) bool { return opening[f] })
	}
	return state
}

// tableState is the table for what is wanted and what leaves. A list that is as it was in the table is the very one of there.
func (s *step) tableState(leaving []netip.Addr) nft.State {
	state := nft.State{
		VIPs: s.want.VIPs, SourceRanges: s.want.SourceRanges, Translations: s.want.Translations, Inside: s.want.Inside,
		Frontends: s.table.Frontends,
	}
	if len(leaving) > 0 {
		state.VIPs = slices.Concat(s.want.VIPs, leaving)
		slices.SortFunc(state.VIPs, netip.Addr.Compare)
	}
	servers, receivers := s.want.Servers, s.want.Receivers
	frontend := func(i int) model.Frontend {
		if i < len(servers) {
			return servers[i].Frontend
		}
		return receivers[i-len(servers)].Frontend
	}
	all := len(servers) + len(receivers)
	known := len(state.Frontends) == all
	for i := 0; i < all && known; i++ {
		known = state.Frontends[i] == frontend(i)
	}
	if !known {
		state.Frontends = make([]model.Frontend, all)
		for i := range all {
			state.Frontends[i] = frontend(i)
		}
	}
	for _, receiver := range receivers {
		state.Received = append(state.Received, receiver.Frontend)
		if receiver.Wrapped.IsValid() {
			state.Tunnelled = append(state.Tunnelled, receiver.Frontend)
		}
	}
	return state
}

// translate brings the nftables table to a state and the record with it.
func (s *step) translate(ctx context.Context, state nft.State) error {
	touched := s.before != nil && sameTable(s.table, state)
	if s.applied != nil || s.synced {
		if sameTable(s.table, state) {
			return nil
		}
		if err := s.kernel.Table.Apply(ctx, s.table, state); err == nil {
			s.outcome.Writes++
			s.noteTable(state)
			return nil
		}
		touched = true // it is not what we left
	}
	changed, err := s.kernel.Table.Sync(ctx, state)
	if err != nil {
		return fmt.Errorf("program nftables: %w", err)
	}
	if changed {
		s.outcome.Writes++
	}
	if changed && touched {
		s.repairedTable()
	}
	s.synced = true
	s.noteTable(state)
	return nil
}

func (s *step) noteTable(state nft.State) {
	s.table, s.record = state, state.VIPs
	if s.record == nil {
		s.record = []netip.Addr{} // it is known that there are none
	}
}

func sameTable(a, b nft.State) bool {
	return same(a.VIPs, b.VIPs) && same(a.Frontends, b.Frontends) && same(a.SourceRanges, b.SourceRanges) &&
		same(a.Translations, b.Translations) && same(a.Inside, b.Inside) &&
		same(a.Received, b.Received) && same(a.Tunnelled, b.Tunnelled)
}
