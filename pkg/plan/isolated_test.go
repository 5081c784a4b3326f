package plan

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

func isolatedNode1(frontends ...v1alpha1.Frontend) Result {
	return Node(Snapshot{
		VIPs: []*v1alpha1.VIP{vip("10.87.2.10", frontends...)}, Node: "n1", Machines: []Machine{machine("n1"), machine("n2")},
		Interfaces: []model.Interface{eth0}, Isolated: true, Slices: noEndpoints,
	})
}

func TestAnIsolatedDatapathUsesItsOwnNode(t *testing.T) {
	nodePorts, nodes := web(), web()
	nodePorts.Backends, nodePorts.NodePort = &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort}, 30080
	nodes.Port, nodes.Backends = 81, &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}
	result := isolatedNode1(nodePorts, nodes)
	for i, want := range [][]string{{"10.87.0.1:30080 1", "10.87.0.2:30080 1"}, {"10.87.0.1:81 1", "10.87.0.2:81 1"}} {
		if got := lines(result.State.Servers[i].Backends); !slices.Equal(got, want) {
			t.Errorf("backends %v, want %v", got, want)
		}
	}
}

// TestANodeWithinTheSourceRangesComesToItsIsolatedDatapath: there it is known by the link's addresses.
func TestANodeWithinTheSourceRangesComesToItsIsolatedDatapath(t *testing.T) {
	link := netip.MustParsePrefix("169.254.74.72/29")
	for name, test := range map[string]struct {
		ranges []string
		want   bool
	}{
		"the node's network":         {[]string{"192.0.2.0/24", "10.87.0.0/16"}, true},
		"somebody else's":            {[]string{"192.0.2.0/24"}, false},
		"the other family's as well": {[]string{"fd87::/64", "192.0.2.0/24"}, false},
	} {
		frontend := web()
		frontend.SourceRanges = test.ranges
		got := slices.ContainsFunc(isolatedNode1(frontend).State.SourceRanges, func(r model.SourceRange) bool { return r.Prefix == link })
		if got != test.want {
			t.Errorf("%s: the link is among the source ranges: %v, want %v", name, got, test.want)
		}
	}
}
