package plan

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/model"
)

// weigh gives every member its weight, and counts. Those that are ready have weight 1; a node in reserve and an endpoint
// that drains have 0, so that they keep their connections, unless none is ready: then they take new ones too (of endpoints
// KEP-1669 wants it). One that is down has 0, unless nothing were left but that: then checks change nothing (fail open), because to
// refuse everybody is worse than to try.
func weigh(members []member, checked []Checked) ([]model.Backend, Count) {
	down := make(map[netip.AddrPort]bool, len(checked))
	for _, c := range checked {
		down[c.Backend] = c.Down
	}
	anyReady := slices.ContainsFunc(members, func(m member) bool { return m.standing == ready })
	count := Count{All: len(members)}
	var out []model.Backend
	for _, m := range members {
		if m.standing == absent {
			continue
		}
		backend := model.Backend{Addr: m.addr}
		if m.standing == ready || !anyReady {
			backend.Weight = 1
			if !down[m.addr] {
				count.Ready++
			}
		}
		out = append(out, backend)
	}
	if count.Ready == 0 {
		return out, count
	}
	for i, backend := range out {
		if down[backend.Addr] {
			out[i].Weight = 0
		}
	}
	return out, count
}
