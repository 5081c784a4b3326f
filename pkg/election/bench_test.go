package election

import (
	"fmt"
	"testing"
)

// crowd is what one of many speakers sees at instant 100 s: all live, and the VIPs are spread over those that own any.
func crowd(speakers, vips, owners int) View {
	v := View{
		Self: Owner{"n1", "1"}, Registered: true, Renewed: 99 * second, Attempted: 99*second + second/2,
		Peers: map[string]Peer{}, Claims: map[string]Claim{},
	}
	var candidates []string
	for i := range speakers {
		node := fmt.Sprintf("n%d", i+1)
		candidates = append(candidates, node)
		if node != v.Self.Node {
			v.Peers[node] = Peer{Owner: Owner{node, "1"}, Version: "1", VersionSeen: 99 * second, EpochSeen: 10 * second}
		}
	}
	for i := range vips {
		name := fmt.Sprintf("10.87.%d.%d", i>>8, i&0xff)
		v.VIPs = append(v.VIPs, VIP{Name: name, Seen: 10 * second, Candidates: candidates})
		if owners > 0 {
			v.Claims[name] = Claim{Owner: Owner{candidates[i%owners], "1"}, Version: "1", Seen: 20 * second}
		}
	}
	return v
}

// BenchmarkDecide measures one decision with 10,000 VIPs: at rest, as every renewal asks for one; after the heartbeat of an
// owner was revoked; and when nobody holds anything yet.
func BenchmarkDecide(b *testing.B) {
	const vips = 10_000
	for _, speakers := range []int{3, 20} {
		rest, takeover := crowd(speakers, vips, speakers), crowd(speakers, vips, speakers)
		takeover.Peers["n2"] = Peer{Owner: Owner{Node: "n2"}, Revoked: "1", Version: "2", VersionSeen: 100 * second, EpochSeen: 100 * second}
		for _, scene := range []struct {
			name string
			view View
		}{{"rest", rest}, {"takeover", takeover}, {"start", crowd(speakers, vips, 0)}} {
			b.Run(fmt.Sprintf("%s/speakers=%d", scene.name, speakers), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Decide(100*second, DefaultTiming(), scene.view)
				}
			})
		}
	}
}
