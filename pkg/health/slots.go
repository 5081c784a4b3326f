package health

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

const (
	// mostChecks bounds the memory of checks that hang, some 10 KiB each. Checks that are answered need few slots: 5,000 a
	// second of 2 ms each are ten at a time.
	mostChecks = 4096
	// fewestChecks is what a process that may hardly open files checks at once.
	fewestChecks = 16
)

// maxChecks is how many checks may be under way at once: each has a file descriptor, of which half are left to all else.
func maxChecks() int {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fewestChecks
	}
	return int(max(min(files.Cur/2, mostChecks), fewestChecks))
}

// slots gives every check that is under way a slot, so that a network that does not answer, whose checks each have one for the
// whole of their timeout, leaves slots to the others. A network may have as many as are free at that moment (dynamic
// thresholds; Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998): one that hangs has half of all at most, n
// of them n/(n+1) together, and one that answers always finds some.
type slots struct {
	limit    int
	used     int
	networks map[netip.Prefix]*network // with checks that are under way or wait
	waiting  []*network                // those in which some wait, in the order of their first
}

// network is part of the checked addresses that is likely to fail as a whole: a node's pods, a subnet of nodes.
type network struct {
	prefix  netip.Prefix
	used    int
	waiting []*state // in the order in which they were due
	listed  bool     // in slots.waiting
}

// Prefix lengths of a network: a node's pods have this much in common by default (kube-controller-manager,
// --node-cidr-mask-size-ipv4 and -ipv6).
const (
	bits4 = 24
	bits6 = 64
)

func networkOf(addr netip.Addr) netip.Prefix {
	bits := bits6
	if addr.Is4() {
		bits = bits4
	}
	prefix, _ := addr.Prefix(bits) // an error is for lengths that the family does not have
	return prefix
}

// take gives a state a slot, or lets it wait for one and returns false.
func (s *slots) take(state *state) bool {
	prefix := networkOf(state.target.Addr.Addr())
	n := s.networks[prefix]
	if n == nil {
		n = &network{prefix: prefix}
		s.networks[prefix] = n
	}
	if len(n.waiting) == 0 && s.may(n) {
		n.used++
		s.used++
		return true
	}
	n.waiting = append(n.waiting, state)
	if !n.listed {
		n.listed = true
		s.waiting = append(s.waiting, n)
	}
	return false
}

// may reports whether a network may have one slot more.
func (s *slots) may(n *network) bool { return n.used < s.limit-s.used }

// free takes a slot back and reports whether somebody waits for one.
func (s *slots) free(state *state) bool {
	n := s.networks[networkOf(state.target.Addr.Addr())]
	n.used--
	s.used--
	s.forget(n)
	return len(s.waiting) > 0
}

// resume gives a slot to one that waits and may have it now; nil if none may. Networks take turns.
func (s *slots) resume() *state {
	for i := 0; i < len(s.waiting); {
		n := s.waiting[i]
		for len(n.waiting) > 0 && n.waiting[0].dropped {
			n.waiting = n.waiting[1:]
		}
		if len(n.waiting) > 0 && !s.may(n) {
			i++
			continue
		}
		s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
		n.listed = false
		if len(n.waiting) == 0 {
			s.forget(n)
			continue
		}
		state := n.waiting[0]
		n.waiting = n.waiting[1:]
		n.used++
		s.used++
		if len(n.waiting) > 0 {
			n.listed = true
			s.waiting = append(s.waiting, n)
		}
		return state
	}
	return nil
}

// forget drops a network that has nothing under way and nothing that waits.
func (s *slots) forget(n *network) {
	if n.used == 0 && len(n.waiting) == 0 && !n.listed {
		delete(s.networks, n.prefix)
	}
}
