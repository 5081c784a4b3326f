package election

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// fault of a schedule: it strikes one node, or all where it is the API server's.
type fault struct {
	at   time.Duration
	node int
	kind faultKind
}

type faultKind string

const (
	freezes     faultKind = "freezes, or thaws with all that it believed"
	losesAPI    faultKind = "is cut from the API server, or no more"
	losesLAN    faultKind = "is cut from the other nodes, or no more"
	heals       faultKind = "is well"
	isCordoned  faultKind = "is cordoned, or no more"
	apiAway     faultKind = "the API server goes away"
	apiReturns  faultKind = "the API server is back"
	allAreWell  faultKind = "all is well"
	apiComeback           = 40 * time.Second // longest outage
)

func (f fault) String() string {
	return fmt.Sprintf("%v n%d %s", f.at.Round(time.Millisecond), f.node, f.kind)
}

// schedule makes up faults of some kinds until a moment, after which all is well.
func schedule(seed uint64, nodes int, until time.Duration, kinds ...faultKind) []fault {
	rng := rand.New(rand.NewPCG(seed, 11))
	var out []fault
	for at := 8 * time.Second; at < until; at += time.Duration(rng.Int64N(int64(4 * time.Second))) {
		f := fault{at: at, node: rng.IntN(nodes), kind: kinds[rng.IntN(len(kinds))]}
		out = append(out, f)
		if f.kind == apiAway {
			at += time.Duration(rng.Int64N(int64(apiComeback)))
			out = append(out, fault{at: at, kind: apiReturns})
		}
	}
	return append(out, fault{at: until, kind: allAreWell})
}

// dieWhileHanding makes up nodes that are cordoned, and stop within the time in which they write what they give to others.
func dieWhileHanding(seed uint64) (out []fault) {
	rng := rand.New(rand.NewPCG(seed, 13))
	for at := 8 * time.Second; at < simFaults; at += 10 * time.Second {
		node := rng.IntN(4)
		dies := at + time.Duration(rng.Int64N(int64(500*time.Millisecond)))
		out = append(out, fault{at, node, isCordoned}, fault{dies, node, freezes}, fault{at + 8*time.Second, node, freezes}, fault{at + 8*time.Second, node, isCordoned})
	}
	return append(out, fault{at: simFaults, kind: allAreWell})
}

func (s *sim) play(faults []fault) {
	for _, f := range faults {
		s.calm = max(s.calm, f.at)
		s.after(f.at, func() { s.strike(f) })
	}
}

func (s *sim) strike(f fault) {
	s.struck = s.now
	n := s.nodes[f.node%len(s.nodes)]
	switch f.kind {
	case freezes:
		n.down = !n.down
	case losesAPI:
		n.cut = !n.cut
	case losesLAN:
		n.lanCut = !n.lanCut
	case heals:
		n.down, n.cut, n.lanCut = false, false, false
	case isCordoned:
		n.cordoned = !n.cordoned
		s.learnCandidates()
	case apiAway:
		s.apiOut = true
	case apiReturns:
		s.apiOut = false
	case allAreWell:
		s.apiOut = false
		for _, n := range s.nodes {
			n.down, n.cut, n.lanCut, n.cordoned = false, false, false, false
		}
		s.learnCandidates()
	}
}

// shrink leaves out every fault without which the play fails all the same.
func shrink(faults []fault, fails func([]fault) error) []fault {
	for i := 0; i < len(faults); {
		without := slices.Delete(slices.Clone(faults), i, i+1)
		if fails(without) != nil {
			faults = without
		} else {
			i++
		}
	}
	return faults
}
