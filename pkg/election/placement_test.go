package election

import (
	"fmt"
	"slices"
	"testing"
)

// TestPlacement: every node computes the same, loads differ by one at most, and a VIP that nobody claims goes to the next.
func TestPlacement(t *testing.T) {
	nodes := []string{"a", "b", "c"}
	var vips []VIP
	for i := range 100 {
		vips = append(vips, VIP{Name: fmt.Sprintf("10.0.0.%03d", i), Candidates: nodes})
	}
	claimed := map[string]string{}
	load := map[string]int{}
	for _, node := range nodes {
		view := View{Self: Owner{node, "1"}, Registered: true, Renewed: 99 * second, Claims: map[string]Claim{}, Peers: map[string]Peer{}, VIPs: vips}
		for i := range view.VIPs {
			view.VIPs[i].Seen = 100 * second
		}
		for _, peer := range nodes {
			if peer != node {
				view.Peers[peer] = Peer{Owner: Owner{peer, "1"}, Version: "1", VersionSeen: 99 * second}
			}
		}
		for _, move := range Decide(100*second, DefaultTiming(), view).Claim {
			vip := move.VIP
			if other, twice := claimed[vip]; twice {
				t.Errorf("%s is placed on %s and %s", vip, other, node)
			}
			claimed[vip] = node
			load[node]++
		}
		if late := Decide(103*second-1, DefaultTiming(), withRenewal(view)).Claim; len(late) != 100 {
			t.Errorf("%s would claim %d VIPs that others left for 3 s, not all 100", node, len(late))
		}
	}
	if len(claimed) != 100 {
		t.Errorf("%d of 100 VIPs are placed", len(claimed))
	}
	for node, count := range load {
		if count < 33 || count > 34 {
			t.Errorf("%s has %d of 100 VIPs", node, count)
		}
	}
}

func withRenewal(v View) View {
	v.Renewed = 102 * second
	for node, peer := range v.Peers {
		v.Peers[node] = stale(peer, 102*second)
	}
	return v
}

func TestPlacementMovesLittle(t *testing.T) {
	before, after := map[string]string{}, map[string]string{}
	for i := range 1000 {
		vip := fmt.Sprintf("10.0.%d.%d", i/250, i%250)
		before[vip] = ordered(vip, []string{"a", "b", "c", "d"})[0]
		after[vip] = ordered(vip, []string{"a", "b", "c"})[0]
	}
	for vip, node := range before {
		if node != "d" && after[vip] != node {
			t.Errorf("%s moved from %s to %s although only d left", vip, node, after[vip])
		}
	}
	for _, node := range []string{"a", "b", "c", "d"} {
		count := 0
		for _, first := range before {
			if first == node {
				count++
			}
		}
		if count < 200 || count > 300 {
			t.Errorf("%s is first for %d of 1000 VIPs, want about 250", node, count)
		}
	}
	if !slices.Equal(ordered("x", []string{"a", "b", "c"}), ordered("x", []string{"c", "b", "a"})) {
		t.Error("the order depends on the order of the nodes")
	}
}
