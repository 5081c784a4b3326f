package election

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

const simFaults, simEnd = 90 * time.Second, 150 * time.Second

// runs is how many schedules a test plays; FAIRLEAD_SIM_RUNS says it for a soak.
func runs(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("FAIRLEAD_SIM_RUNS")
	if text == "" {
		return 12
	}
	count, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return count
}

// playAll plays schedules of faults of some kinds; the first that fails is shrunk to the faults that it takes.
func playAll(t *testing.T, with setup, check func(*sim) func() error, end func(*sim) error, kinds ...faultKind) {
	t.Helper()
	for seed := range runs(t) {
		with.nodes, with.vips = 3+int(seed%3), 4
		once := func(faults []fault) error {
			s := newSim(seed, with)
			s.play(faults)
			if err := s.run(simEnd, check(s)); err != nil {
				return err
			}
			return end(s)
		}
		faults := schedule(seed, with.nodes, simFaults, kinds...)
		if err := once(faults); err != nil {
			faults = shrink(faults, once)
			t.Fatalf("seed %d: %v\nit takes no more than these faults: %v\nwith them: %v", seed, err, faults, once(faults))
		}
	}
}

// oneAnnounces is broken when two nodes may announce one VIP.
func oneAnnounces(s *sim) func() error {
	return func() error {
		for _, vip := range s.vips {
			if nodes := s.announcing(vip); len(nodes) > 1 {
				return fmt.Errorf("%v may all announce %s", names(nodes), vip)
			}
		}
		return nil
	}
}

// oneOfThoseThatStandAnnounces is broken when two nodes of which neither was revoked may announce one VIP: whatever the speakers'
// network tells, that would be no one's word but the Leases'.
func oneOfThoseThatStandAnnounces(s *sim) func() error {
	return func() error {
		for _, vip := range s.vips {
			stand := slices.DeleteFunc(s.announcing(vip), func(n *simNode) bool { return s.store[n.name].owner != n.view.Self })
			if len(stand) > 1 {
				return fmt.Errorf("%v may all announce %s, and none was revoked", names(stand), vip)
			}
		}
		return nil
	}
}

// allHeld is broken when a VIP does not have one holder at the end.
func allHeld(s *sim) error {
	var wrong []error
	for _, vip := range s.vips {
		if nodes := s.announcing(vip); len(nodes) != 1 {
			wrong = append(wrong, fmt.Errorf("a minute after the last fault %s is held by %v, not by one node", vip, names(nodes)))
		}
	}
	return errors.Join(wrong...)
}

func TestNoTwoNodesHaveTheRightToAnnounceOneVIP(t *testing.T) {
	playAll(t, setup{policy: Release, slow: 20}, oneAnnounces, allHeld, freezes, losesAPI, losesLAN, heals, isCordoned, apiAway)
}

func TestBreakingTheProtocolIsNoticed(t *testing.T) {
	atRandom := func(seed uint64) []fault { return schedule(seed, 4, simFaults, freezes, losesAPI, heals) }
	leases := setup{nodes: 4, vips: 4, policy: Release, slow: 4}
	gossip := setup{nodes: 4, vips: 4, policy: Release, slow: 2, gossip: true}
	for name, test := range map[string]struct {
		with   setup
		how    broken
		faults func(seed uint64) []fault
		check  func(*sim) func() error
		likely uint64 // the first schedule to try: others take their time
	}{
		"claims are taken without revoking the heartbeat": {leases, broken{claimWithoutRevoking: true}, atRandom, oneAnnounces, 0},
		"a renewal counts from its response":              {leases, broken{countFromResponse: true}, atRandom, oneAnnounces, 198},
		"clocks of different machines are compared":       {leases, broken{wallClocks: true}, atRandom, oneAnnounces, 2},
		"what the dead wrote counts":                      {gossip, broken{heedTheDead: true}, dieWhileHanding, oneOfThoseThatStandAnnounces, 29},
		"a will counts before the watch brings it":        {gossip, broken{willsUnwatched: true}, dieWhileHanding, oneOfThoseThatStandAnnounces, 665},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range uint64(2000) {
				seed := test.likely + i
				s := newSim(seed, test.with)
				s.setup.broken = test.how
				s.play(test.faults(seed))
				if err := s.run(simEnd, test.check(s)); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("2000 schedules found no moment with two holders")
		})
	}
}

// TestOverlapsAreBounded: with verdicts of the speakers' own network and the policy Hold two may announce one VIP where one of
// them is cut off from the API server or from others: no longer than until its right ends, it hears that a peer has an answer, or
// it hears the other's announcements, which come every half minute at least. Two whose clients cannot be the same, as one is cut off from the LAN, do not count.
func TestOverlapsAreBounded(t *testing.T) {
	longest := time.Duration(0)
	bounded := func(s *sim) func() error {
		since := map[string]time.Duration{}
		return func() error {
			for _, vip := range s.vips {
				nodes := slices.DeleteFunc(s.announcing(vip), func(n *simNode) bool { return n.lanCut })
				if len(nodes) < 2 {
					delete(since, vip)
					continue
				}
				if _, before := since[vip]; !before {
					since[vip] = s.now
				}
				lasts := s.now - since[vip]
				longest = max(longest, lasts)
				if limit := 2 * s.timing.TTake; lasts > limit {
					return fmt.Errorf("%v have announced %s for more than %v", names(nodes), vip, limit)
				}
			}
			return nil
		}
	}
	playAll(t, setup{policy: Hold, gossip: true, slow: 20}, bounded, allHeld, freezes, losesAPI, losesLAN, heals, isCordoned, apiAway)
	t.Logf("longest overlap %v", longest)
}

// TestOneOfThoseThatStandAnnounces: what the speakers' network tells, and holding on without the API server, is no reason for two of
// which neither was revoked to announce one VIP, also where nodes die while they hand VIPs over and messages take long.
func TestOneOfThoseThatStandAnnounces(t *testing.T) {
	for _, policy := range []Policy{Hold, Release} {
		playAll(t, setup{policy: policy, gossip: true, slow: 4}, oneOfThoseThatStandAnnounces, allHeld, freezes, losesAPI, losesLAN, heals, isCordoned, apiAway)
	}
	for seed := range runs(t) {
		s := newSim(seed, setup{nodes: 4, vips: 4, policy: Release, slow: 2, gossip: true})
		s.play(dieWhileHanding(seed))
		if err := s.run(simEnd, oneOfThoseThatStandAnnounces(s)); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestNoVIPStaysOutOfReach: one whose node the others do not reach any more, although the API server does, goes to one that they do
// reach, and does not go back as long as most are within reach.
func TestNoVIPStaysOutOfReach(t *testing.T) {
	reached := func(s *sim) func() error {
		since := map[string]time.Duration{}
		return func() error {
			cut := 0
			for _, n := range s.nodes {
				if n.lanCut {
					cut++
				}
			}
			for _, vip := range s.vips {
				nodes := s.announcing(vip)
				if here := slices.ContainsFunc(nodes, func(n *simNode) bool { return !n.lanCut }); here || 2*(len(s.nodes)-cut) <= len(s.nodes) {
					delete(since, vip)
					continue
				}
				if _, before := since[vip]; !before {
					since[vip] = s.now
				}
				// Who comes first may be seen differently for a while: each waits for those that it puts before itself.
				if limit := s.timing.TTake + time.Duration(len(s.nodes))*s.timing.StepDelay; s.now > 7*time.Second && s.now-max(since[vip], s.struck) > limit {
					return fmt.Errorf("for more than %v without a fault %s is with %v only, out of reach", limit, vip, names(nodes))
				}
			}
			return nil
		}
	}
	playAll(t, setup{policy: Hold, gossip: true, slow: 20}, reached, allHeld, losesLAN, heals)
}

// TestAnOutageOfTheAPIServerMovesNothing: nothing else fails, and every VIP stays where it was, held by one node all the time.
func TestAnOutageOfTheAPIServerMovesNothing(t *testing.T) {
	still := func(s *sim) func() error {
		one := oneAnnounces(s)
		return func() error {
			if err := one(); err != nil || s.now < 7*time.Second {
				return err
			}
			for _, vip := range s.vips {
				if len(s.announcing(vip)) == 0 {
					return fmt.Errorf("nobody announces %s", vip)
				}
			}
			return nil
		}
	}
	stayed := func(s *sim) error {
		if s.takeovers > 0 {
			return fmt.Errorf("%d claims changed hands", s.takeovers)
		}
		return allHeld(s)
	}
	playAll(t, setup{policy: Hold, gossip: true}, still, stayed, apiAway)
}

// TestWhoStoodStillInAnOutageHasItsVIPsBack: while the API server is away, one node after the other stops for a while, and longer
// than its right lasts. Nobody takes its VIPs, which it has soon after it goes on.
func TestWhoStoodStillInAnOutageHasItsVIPsBack(t *testing.T) {
	const back = 2 * time.Second
	for seed := range runs(t) {
		s := newSim(seed, setup{nodes: 3 + int(seed%3), vips: 4, policy: Hold, gossip: true})
		faults := []fault{{at: 10 * time.Second, kind: apiAway}}
		for at := 12 * time.Second; at < simFaults; at += 16 * time.Second {
			node := int(at/time.Second) / 16 % len(s.nodes)
			faults = append(faults, fault{at: at, node: node, kind: freezes}, fault{at: at + 12*time.Second, node: node, kind: freezes})
		}
		s.play(append(faults, fault{at: simFaults + 10*time.Second, kind: allAreWell}))
		one := oneAnnounces(s)
		err := s.run(simEnd, func() error {
			if err := one(); err != nil || s.now < 7*time.Second || s.now-s.struck < back {
				return err
			}
			for _, vip := range s.vips {
				nodes := s.announcing(vip)
				stopped := slices.ContainsFunc(s.nodes, func(n *simNode) bool { return n.down && n.view.Claims[vip].Owner == n.view.Self })
				if len(nodes) == 0 && !stopped {
					return fmt.Errorf("%v after the last fault nobody announces %s", back, vip)
				}
			}
			return nil
		})
		if err == nil && s.takeovers > 0 {
			err = fmt.Errorf("%d claims changed hands", s.takeovers)
		}
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestPlannedMovesLeaveNoGap: nodes are cordoned and no more, and at every moment every VIP is bound somewhere, and announced
// by one node at most.
func TestPlannedMovesLeaveNoGap(t *testing.T) {
	moved := 0
	served := func(s *sim) func() error {
		one := oneAnnounces(s)
		return func() error {
			if err := one(); err != nil || s.now < 7*time.Second {
				return err
			}
			for _, vip := range s.vips {
				if len(s.serving(vip)) == 0 {
					return fmt.Errorf("nobody has %s bound", vip)
				}
			}
			return nil
		}
	}
	count := func(s *sim) error { moved += s.takeovers; return allHeld(s) }
	playAll(t, setup{policy: Hold, gossip: true}, served, count, isCordoned)
	if moved == 0 {
		t.Error("nothing ever moved")
	}
}
