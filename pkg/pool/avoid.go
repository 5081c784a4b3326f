package pool

// Avoid is a choice of IPv4 addresses, by their last number, that are not to be handed out.
type Avoid uint8

const (
	// AvoidBuggy takes out .0 and .255, which some equipment mistakes for network and broadcast addresses of a /24.
	AvoidBuggy Avoid = 1 << iota
	// AvoidGateway takes out .1 and .254, where routers usually are.
	AvoidGateway
)

// lastByte reports whether addresses that end in b are avoided.
func (a Avoid) lastByte(b uint64) bool {
	return a&AvoidBuggy != 0 && (b == 0 || b == 255) || a&AvoidGateway != 0 && (b == 1 || b == 254)
}

func (a Avoid) holds(family Family, w word) bool {
	return family == IPv4 && a != 0 && a.lastByte(w.lo&0xff)
}

// up is the first address at or after w that is not avoided: at most four steps away.
func (a Avoid) up(family Family, w word) word {
	for a.holds(family, w) {
		w = w.next()
	}
	return w
}

// down is the last address at or before w that is not avoided.
func (a Avoid) down(family Family, w word) word {
	for a.holds(family, w) {
		w = w.prev()
	}
	return w
}

// between is how many addresses from first to last are avoided.
func (a Avoid) between(family Family, first, last word) uint64 {
	if family != IPv4 || a == 0 {
		return 0
	}
	below := func(end uint64) (n uint64) { // avoided addresses before end
		for _, b := range []uint64{0, 1, 254, 255} {
			if a.lastByte(b) {
				n += end >> 8
				if end&0xff > b {
					n++
				}
			}
		}
		return n
	}
	return below(last.lo+1) - below(first.lo)
}
