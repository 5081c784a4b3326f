package nft

import (
	"net/netip"

	"github.com/fairlead/fairlead/pkg/model"
)

// changing returns the elements for two states that may differ: those of what differs, or all, to be written anew.
func changing(from, to State) (old, wanted []element, err error) {
	elements := func(from, to State) {
		if old, err = elementsOf(from); err == nil {
			wanted, err = elementsOf(to)
		}
	}
	if elements(narrow(from, to)); err == nil && networksLeaving(old, wanted) > maxNetworksLeaving {
		elements(from, to)
	}
	return old, wanted, err
}

// narrow leaves out of two states what is the same in both: to make, sort and compare the elements of 10,000 frontends takes
// longer than to change one. Their lists are in order and hold nothing twice.
func narrow(from, to State) (State, State) {
	from.VIPs, to.VIPs = differing(from.VIPs, to.VIPs, alone[netip.Addr])
	from.Frontends, to.Frontends = differing(from.Frontends, to.Frontends, alone[model.Frontend])
	from.Received, to.Received = differing(from.Received, to.Received, alone[model.Frontend])
	from.Tunnelled, to.Tunnelled = differing(from.Tunnelled, to.Tunnelled, alone[model.Frontend])
	// The networks of one frontend are merged, and of two sources for one backend one counts.
	from.SourceRanges, to.SourceRanges = differing(from.SourceRanges, to.SourceRanges, func(a, b model.SourceRange) bool {
		return a.Frontend == b.Frontend
	})
	from.Translations, to.Translations = differing(from.Translations, to.Translations, func(a, b model.Translation) bool {
		return a.VIP == b.VIP && a.Proto == b.Proto && a.Backend == b.Backend
	})
	from.Inside, to.Inside = differing(from.Inside, to.Inside, func(_, _ netip.Prefix) bool { return true })
	return from, to
}

func alone[T any](_, _ T) bool { return false }

// differing cuts off how two lists begin and end alike, but not within items that belong together.
func differing[T comparable](from, to []T, together func(a, b T) bool) (f, t []T) {
	if model.Same(from, to) {
		return nil, nil
	}
	n := 0
	for n < len(from) && n < len(to) && from[n] == to[n] {
		n++
	}
	if n == len(from) && n == len(to) {
		return nil, nil
	}
	belong := func(list []T, i int) bool { return i > 0 && i < len(list) && together(list[i-1], list[i]) }
	for belong(from, n) || belong(to, n) {
		n--
	}
	from, to = from[n:], to[n:]
	f, t = from, to
	for len(f) > 0 && len(t) > 0 && f[len(f)-1] == t[len(t)-1] {
		f, t = f[:len(f)-1], t[:len(t)-1]
	}
	for belong(from, len(f)) || belong(to, len(t)) {
		f, t = from[:len(f)+1], to[:len(t)+1]
	}
	return f, t
}
