package election

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const second = Instant(time.Second)

// scene is a view of node a at instant 100 s: both peers live, and a owns 10.0.0.1.
func scene() View {
	a, b, c := Owner{"a", "1"}, Owner{"b", "1"}, Owner{"c", "1"}
	return View{
		Self: a, Registered: true, Renewed: 99 * second, Attempted: 99*second + second/2,
		Peers: map[string]Peer{
			"b": {Owner: b, Version: "20", VersionSeen: 99 * second, EpochSeen: 10 * second},
			"c": {Owner: c, Version: "30", VersionSeen: 99 * second, EpochSeen: 10 * second},
		},
		Claims: map[string]Claim{
			"10.0.0.1": {Owner: a, Version: "1", Seen: 20 * second},
			"10.0.0.2": {Owner: b, Version: "2", Seen: 20 * second},
		},
		VIPs: []VIP{
			{Name: "10.0.0.1", Candidates: []string{"a", "b", "c"}},
			{Name: "10.0.0.2", Candidates: []string{"a", "b", "c"}},
		},
	}
}

func TestDecide(t *testing.T) {
	type outcome struct{ Hold, Leaving, Revoke, Claim, Hand, Delete string }
	for name, test := range map[string]struct {
		change func(*View)
		now    Instant
		want   outcome
	}{
		"with everybody alive an owner holds and nobody else does anything": {
			want: outcome{Hold: "[10.0.0.1]"},
		},
		"the right ends TSelf after the start of the last renewal": {
			now: 102 * second,
		},
		"a speaker that has not registered holds nothing and takes nothing": {
			change: func(v *View) { v.Registered = false; delete(v.Claims, "10.0.0.2") },
		},
		"a heartbeat that is unchanged for less than TTake is left alone": {
			change: func(v *View) { v.Peers["b"] = stale(v.Peers["b"], 96*second+second/2) },
			want:   outcome{Hold: "[10.0.0.1]"},
		},
		"one that is unchanged for longer is revoked, and its claims are not touched before that": {
			change: func(v *View) { v.Peers["b"] = stale(v.Peers["b"], 95*second) },
			want:   outcome{Hold: "[10.0.0.1]", Revoke: "[b 20]"},
		},
		"the claims of a revoked heartbeat are free": {
			change: func(v *View) {
				v.Peers["b"] = Peer{Owner: Owner{Node: "b"}, Revoked: "1", Version: "21", VersionSeen: 90 * second, EpochSeen: 90 * second}
				v.Peers["c"] = Peer{Owner: Owner{Node: "c"}, Revoked: "1", Version: "31"}
			},
			want: outcome{Hold: "[10.0.0.1]", Claim: "[10.0.0.2]"},
		},
		"and stay free: a later epoch that owns nothing is not revoked": {
			change: func(v *View) {
				v.Peers["b"] = Peer{Owner: Owner{"b", "2"}, Revoked: "1", Version: "22", VersionSeen: 90 * second, EpochSeen: 90 * second}
				v.Attempted, v.Reach = 99*second+second/2, map[string]Reach{"b": {Dead: 91 * second}, "c": {Alive: true}}
			},
			want: outcome{Hold: "[10.0.0.1]", Claim: "[10.0.0.2]"},
		},
		"but not those of an epoch that is not the one revoked": {
			change: func(v *View) {
				v.Peers["b"] = Peer{Owner: Owner{Node: "b"}, Revoked: "0", Version: "21", VersionSeen: 99 * second, EpochSeen: 99 * second}
			},
			want: outcome{Hold: "[10.0.0.1]"},
		},
		"nor those of a node that just began a new epoch": {
			change: func(v *View) {
				v.Peers["b"] = Peer{Owner: Owner{"b", "2"}, Version: "21", VersionSeen: 99 * second, EpochSeen: 99 * second}
			},
			want: outcome{Hold: "[10.0.0.1]"},
		},
		"nor those of a node whose heartbeat was deleted a moment ago": {
			change: func(v *View) {
				v.Peers["b"] = Peer{Owner: Owner{"b", "1"}, VersionSeen: 99 * second, EpochSeen: 10 * second}
			},
			want: outcome{Hold: "[10.0.0.1]"},
		},
		"a claim of an earlier epoch of this node is renewed at once": {
			change: func(v *View) { v.Claims["10.0.0.1"] = Claim{Owner: Owner{"a", "0"}, Version: "1", Seen: 20 * second} },
			want:   outcome{Claim: "[10.0.0.1]"},
		},
		"a VIP for which this node is no candidate is held until another has the claim": {
			change: func(v *View) { v.VIPs[0].Candidates = []string{"c"} },
			want:   outcome{Hold: "[10.0.0.1]", Leaving: "[10.0.0.1]", Hand: "[10.0.0.1 to c/1]"},
		},
		"then it is held without a word": {
			change: func(v *View) {
				v.Claims["10.0.0.1"] = Claim{Owner: Owner{"c", "1"}, Version: "3", Seen: 100 * second}
				v.Handed = map[string]Instant{"10.0.0.1": 99 * second}
			},
			want: outcome{Hold: "[10.0.0.1]", Leaving: "[10.0.0.1]"},
		},
		"for HandLimit": {
			change: func(v *View) {
				v.Claims["10.0.0.1"] = Claim{Owner: Owner{"c", "1"}, Version: "3", Seen: 100 * second}
				v.Handed = map[string]Instant{"10.0.0.1": 95 * second}
			},
		},
		"for HandLimit after the other came to some that it has from this node": {
			change: func(v *View) {
				v.Claims["10.0.0.1"] = Claim{Owner: Owner{"c", "1"}, Version: "3", Seen: 100 * second}
				v.Handed = map[string]Instant{"10.0.0.1": 90 * second}
				v.Taken = map[Owner]Instant{{"c", "1"}: 96 * second}
			},
			want: outcome{Hold: "[10.0.0.1]", Leaving: "[10.0.0.1]"},
		},
		"a VIP that no living node can hold is let go": {
			change: func(v *View) { v.VIPs[0].Candidates = nil },
			want:   outcome{Delete: "[10.0.0.1]"},
		},
		"one that somebody wants elsewhere is handed to that node": {
			change: func(v *View) { v.VIPs[0].MoveTo = "b" },
			want:   outcome{Hold: "[10.0.0.1]", Leaving: "[10.0.0.1]", Hand: "[10.0.0.1 to b/1]"},
		},
		"but not to one that may not hold it": {
			change: func(v *View) { v.VIPs[0].MoveTo = "b"; v.VIPs[0].Candidates = []string{"a", "c"} },
			want:   outcome{Hold: "[10.0.0.1]"},
		},
		"nor to one whose speaker is being replaced": {
			change: func(v *View) { v.VIPs[0].MoveTo = "b"; v.Peers["b"] = restarts(v.Peers["b"]) },
			want:   outcome{Hold: "[10.0.0.1]"},
		},
		"one that is being replaced is waited for": {
			change: func(v *View) { v.Peers["b"] = stale(restarts(v.Peers["b"]), 80*second) },
			want:   outcome{Hold: "[10.0.0.1]"},
		},
		"as long as its machine refuses connections": {
			change: func(v *View) {
				v.Peers["b"] = restarts(v.Peers["b"])
				v.Reach = map[string]Reach{"b": {Dead: 99 * second, Refused: true}, "c": {Alive: true}}
			},
			want: outcome{Hold: "[10.0.0.1]"},
		},
		"and not when that is silent": {
			change: func(v *View) {
				v.Peers["b"] = restarts(v.Peers["b"])
				v.Reach = map[string]Reach{"b": {Dead: 99 * second}, "c": {Alive: true}}
			},
			want: outcome{Hold: "[10.0.0.1]", Revoke: "[b 20]"},
		},
		"one that answers nobody is revoked at once by a speaker that reaches most": {
			change: func(v *View) { v.Reach = map[string]Reach{"b": {Dead: 99 * second}, "c": {Alive: true}} },
			want:   outcome{Hold: "[10.0.0.1]", Revoke: "[b 20]"},
		},
		"by one that does not, when its heartbeat is late as well": {
			change: func(v *View) { v.Reach = map[string]Reach{"b": {Dead: 99 * second}, "c": {}} },
			want:   outcome{Hold: "[10.0.0.1]"},
		},
		"which it is after LateAfter": {
			change: func(v *View) {
				v.Reach = map[string]Reach{"b": {Dead: 99 * second}, "c": {}}
				v.Peers["b"] = stale(v.Peers["b"], 98*second)
			},
			want: outcome{Hold: "[10.0.0.1]", Revoke: "[b 20]"},
		},
		"by one that reached nobody then, when its heartbeat is late as well": {
			change: func(v *View) { v.Reach = map[string]Reach{"b": {Dead: 99 * second, Alone: true}, "c": {Alive: true}} },
			want:   outcome{Hold: "[10.0.0.1]"},
		},
		"which it is after LateAfter, whoever is reached by then": {
			change: func(v *View) {
				v.Reach = map[string]Reach{"b": {Dead: 99 * second, Alone: true}, "c": {Alive: true}}
				v.Peers["b"] = stale(v.Peers["b"], 98*second)
			},
			want: outcome{Hold: "[10.0.0.1]", Revoke: "[b 20]"},
		},
		"one of which nobody else may have the VIPs is left alone, should it live after all": {
			change: func(v *View) {
				v.VIPs[1].Candidates = []string{"b"}
				v.Reach = map[string]Reach{"b": {Dead: 99 * second}, "c": {Alive: true}}
			},
			want: outcome{Hold: "[10.0.0.1]"},
		},
		"or nobody else that is reached": {
			change: func(v *View) {
				v.VIPs[1].Candidates = []string{"b", "c"}
				for _, node := range []string{"d", "e"} {
					v.Peers[node] = Peer{Owner: Owner{node, "1"}, Version: "40", VersionSeen: 99 * second, EpochSeen: 10 * second}
				}
				v.Peers["c"] = Peer{Owner: Owner{"c", "2"}, Version: "31", VersionSeen: 99*second + second/2, EpochSeen: 99*second + second/2}
				v.Reach = map[string]Reach{"b": {Dead: 99 * second}, "c": {Dead: 98 * second}, "d": {Alive: true}, "e": {Alive: true}}
			},
			want: outcome{Hold: "[10.0.0.1]"},
		},
		"until its heartbeat is too old": {
			change: func(v *View) {
				v.VIPs[1].Candidates = []string{"b"}
				v.Peers["b"] = stale(v.Peers["b"], 95*second)
				v.Reach = map[string]Reach{"b": {Dead: 96 * second}, "c": {Alive: true}}
			},
			want: outcome{Hold: "[10.0.0.1]", Revoke: "[b 20]"},
		},
		"a verdict says nothing of an incarnation that began later": {
			change: func(v *View) {
				peer := v.Peers["b"]
				peer.EpochSeen = 99*second + second/2
				v.Peers["b"] = peer
				v.Reach = map[string]Reach{"b": {Dead: 99 * second}, "c": {Alive: true}}
			},
			want: outcome{Hold: "[10.0.0.1]"},
		},
		"a speaker that ends hands over all": {
			change: func(v *View) { v.Ending = true; delete(v.Peers, "c") },
			want:   outcome{Hold: "[10.0.0.1]", Leaving: "[10.0.0.1]", Hand: "[10.0.0.1 to b/1]"},
		},
		"the claim of a VIP that is gone is deleted by its owner": {
			change: func(v *View) { v.VIPs = v.VIPs[1:] },
			want:   outcome{Delete: "[10.0.0.1]"},
		},
		"a VIP that the candidate before this node does not claim for StepDelay is claimed": {
			change: func(v *View) { leaveToB(v, 20*second) },
			want:   outcome{Hold: "[10.0.0.1 10.0.0.4]", Claim: "[10.0.0.3]"},
		},
		"one that claimed another less than StepDelay ago has not come to it yet": {
			change: func(v *View) { leaveToB(v, 99*second+second/2) },
			want:   outcome{Hold: "[10.0.0.1 10.0.0.4]"},
		},
		"one without candidates stays unclaimed": {
			change: func(v *View) { delete(v.Claims, "10.0.0.2"); v.VIPs[1].Candidates = nil },
			want:   outcome{Hold: "[10.0.0.1]"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			view := scene()
			if test.change != nil {
				test.change(&view)
			}
			now := test.now
			if now == 0 {
				now = 100 * second
			}
			d := Decide(now, DefaultTiming(), view)
			got := outcome{Hold: list(d.Hold), Leaving: list(d.Leaving), Hand: given(d.Hand), Delete: list(d.Delete)}
			for _, move := range d.Claim {
				got.Claim = list(append(strings.Fields(strings.Trim(got.Claim, "[]")), move.VIP))
			}
			if len(d.Revoke) > 0 {
				got.Revoke = fmt.Sprintf("[%s %s]", d.Revoke[0].Node, d.Revoke[0].Version)
			}
			if got != test.want {
				t.Errorf("decided %+v\nwant    %+v", got, test.want)
			}
			if d.Wake <= now {
				t.Errorf("would decide again at %v, which is not after %v", d.Wake, now)
			}
		})
	}
}

func given(moves []Move) string {
	var out []string
	for _, move := range moves {
		out = append(out, fmt.Sprintf("%s to %s/%s", move.VIP, move.To.Node, move.To.Epoch))
	}
	return list(out)
}

// leaveToB adds 10.0.0.3, which nobody owns and b comes before a for, because a owns two; b claimed its last VIP then.
func leaveToB(v *View, then Instant) {
	v.Claims["10.0.0.4"] = v.Claims["10.0.0.1"]
	v.Claims["10.0.0.2"] = Claim{Owner: Owner{"b", "1"}, Version: "2", Seen: then}
	v.VIPs = append(v.VIPs, VIP{Name: "10.0.0.3", Seen: 90 * second, Candidates: []string{"a", "b"}},
		VIP{Name: "10.0.0.4", Candidates: []string{"a", "b", "c"}})
}

func restarts(p Peer) Peer { p.Grace = 30 * time.Second; return p }

func stale(p Peer, seen Instant) Peer { p.VersionSeen = seen; return p }

func list(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprint(names)
}

// TestAnAnswerThatCameLateLeavesTimeForTheNext: a renewal that took almost TSelf gives a right that ends before another could.
func TestAnAnswerThatCameLateLeavesTimeForTheNext(t *testing.T) {
	view := scene()
	view.Policy, view.Renewed, view.Attempted = Hold, 97*second+second/5, 97*second+second/5
	view.Until, view.Reach = 100*second+second/10, map[string]Reach{"b": {Alive: true}, "c": {Alive: true}}
	d := Decide(100*second, DefaultTiming(), view)
	if want := view.Renewed.Add(4300 * time.Millisecond); !d.Renew || !d.Ask || d.Until < want {
		t.Errorf("renews: %v, asks peers: %v, right until %v, want %v at least", d.Renew, d.Ask, d.Until, want)
	}
}

func TestRenewals(t *testing.T) {
	owner := scene()
	owner.Attempted = 98 * second
	if d := Decide(100*second, DefaultTiming(), owner); !d.Renew {
		t.Error("an owner does not renew after a second")
	}
	idle := scene()
	delete(idle.Claims, "10.0.0.1")
	idle.VIPs = nil
	idle.Attempted = 98 * second
	if d := Decide(100*second, DefaultTiming(), idle); d.Renew {
		t.Error("a speaker that owns nothing renews every second")
	}
	idle.Handed = map[string]Instant{"10.0.0.2": 97 * second}
	if d := Decide(100*second, DefaultTiming(), idle); !d.Renew {
		t.Error("one that gave all away and serves it on does not renew after a second")
	}
	idle.Handed = nil
	idle.Attempted = 89 * second
	if d := Decide(100*second, DefaultTiming(), idle); !d.Renew {
		t.Error("a speaker that owns nothing does not renew after 10 s")
	}
}

// TestWatch: every owner of VIPs is watched by some of the others, those that would revoke it first, and by nobody else.
func TestWatch(t *testing.T) {
	nodes := []string{"a", "b", "c", "d", "e", "f"}
	watched := map[string][]string{}
	for _, self := range nodes {
		view := scene()
		view.Self = Owner{self, "1"}
		view.Peers = map[string]Peer{}
		for _, node := range nodes {
			if node != self {
				view.Peers[node] = Peer{Owner: Owner{node, "1"}, Version: "1", VersionSeen: 99 * second}
			}
		}
		view.Peers["e"] = restarts(view.Peers["e"])
		delete(view.Peers, self)
		view.Claims = map[string]Claim{}
		for i, owner := range []string{"a", "b", "e"} {
			view.Claims[fmt.Sprint("10.0.0.", i)] = Claim{Owner: Owner{owner, "1"}, Version: "1", Seen: 90 * second}
		}
		for _, node := range Decide(100*second, DefaultTiming(), view).Watch {
			watched[node] = append(watched[node], self)
		}
	}
	for _, owner := range []string{"a", "b"} {
		able := slices.DeleteFunc(slices.Clone(nodes), func(node string) bool { return node == owner || node == "e" })
		want := ordered(owner, able)[:watchers]
		// One that restarts does not know yet that the others do not count on it.
		got := slices.DeleteFunc(watched[owner], func(node string) bool { return node == "e" })
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("owner %s is watched by %v, want %v", owner, got, want)
		}
	}
	for _, node := range []string{"c", "d", "e", "f"} {
		if watched[node] != nil {
			t.Errorf("%s, which owns nothing or said that it restarts, is watched by %v", node, watched[node])
		}
	}
}
