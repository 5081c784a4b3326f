package plan

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func TestBelowTheQuorum(t *testing.T) {
	sorry := []string{"192.0.2.80:8081", "[2001:db8::80]:8081"}
	both := []Machine{machine("n1"), machine("n2")}
	for name, test := range map[string]struct {
		vip      string // 10.87.2.10 if empty
		check    v1alpha1.HealthCheck
		machines []Machine
		down     []string
		want     []string
		count    string
		short    string
	}{
		"one of two is enough by default": {
			machines: both, down: []string{"10.87.0.1:80"}, want: []string{"10.87.0.1:80 0", "10.87.0.2:80 1"}, count: "1/2",
		},
		"none is not, and the check is open": {
			machines: both, down: []string{"10.87.0.1:80", "10.87.0.2:80"}, want: []string{"10.87.0.1:80 1", "10.87.0.2:80 1"}, count: "0/2",
			short: "0/2 of 1 to all backends, as if there were no check",
		},
		"closed": {
			check: v1alpha1.HealthCheck{WhenAllFail: v1alpha1.FailClosed}, machines: both, down: []string{"10.87.0.1:80", "10.87.0.2:80"},
			want: []string{"10.87.0.1:80 0", "10.87.0.2:80 0"}, count: "0/2", short: "0/2 of 1 to nobody: clients are refused",
		},
		"a quorum of two, open": {
			check: v1alpha1.HealthCheck{Quorum: 2}, machines: both, down: []string{"10.87.0.1:80"},
			want: []string{"10.87.0.1:80 1", "10.87.0.2:80 1"}, count: "1/2", short: "1/2 of 2 to all backends, as if there were no check",
		},
		"a quorum of two, closed": {
			check: v1alpha1.HealthCheck{Quorum: 2, WhenAllFail: v1alpha1.FailClosed}, machines: both, down: []string{"10.87.0.1:80"},
			want: []string{"10.87.0.1:80 0", "10.87.0.2:80 0"}, count: "1/2", short: "1/2 of 2 to nobody: clients are refused",
		},
		"a quorum that is met": {
			check: v1alpha1.HealthCheck{Quorum: 2, WhenAllFail: v1alpha1.FailClosed}, machines: both,
			want: []string{"10.87.0.1:80 1", "10.87.0.2:80 1"}, count: "2/2",
		},
		"the last resort is used before either": {
			check: v1alpha1.HealthCheck{LastResort: sorry, WhenAllFail: v1alpha1.FailClosed}, machines: both,
			down: []string{"10.87.0.1:80", "10.87.0.2:80"},
			want: []string{"10.87.0.1:80 0", "10.87.0.2:80 0", "192.0.2.80:8081 1"}, count: "0/2", short: "0/2 of 1 to the last resort",
		},
		"that of the VIP's family": {
			vip: "fd87::2:10", check: v1alpha1.HealthCheck{LastResort: sorry}, machines: both[:1], down: []string{"[fd87::1]:80"},
			want: []string{"[2001:db8::80]:8081 1", "[fd87::1]:80 0"}, count: "0/1", short: "0/1 of 1 to the last resort",
		},
		"without one of the family the policy counts": {
			check: v1alpha1.HealthCheck{LastResort: sorry[1:]}, machines: both[:1], down: []string{"10.87.0.1:80"},
			want: []string{"10.87.0.1:80 1"}, count: "0/1", short: "0/1 of 1 to all backends, as if there were no check",
		},
		"not without need": {
			check: v1alpha1.HealthCheck{LastResort: sorry}, machines: both, down: []string{"10.87.0.1:80"},
			want: []string{"10.87.0.1:80 0", "10.87.0.2:80 1"}, count: "1/2",
		},
		"also where there is no backend at all": {
			check: v1alpha1.HealthCheck{LastResort: sorry}, want: []string{"192.0.2.80:8081 1"}, count: "0/0", short: "0/0 of 1 to the last resort",
		},
		"it may be a backend, even one that fails": {
			check: v1alpha1.HealthCheck{LastResort: []string{"10.87.0.1:80"}}, machines: both, down: []string{"10.87.0.1:80", "10.87.0.2:80"},
			want: []string{"10.87.0.1:80 1", "10.87.0.2:80 0"}, count: "0/2", short: "0/2 of 1 to the last resort",
		},
		"no backend and nothing that fails is no news": {count: "0/0"},
	} {
		t.Run(name, func(t *testing.T) {
			address := test.vip
			if address == "" {
				address = "10.87.2.10"
			}
			frontend := web()
			frontend.Backends, frontend.HealthCheck = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes}, &test.check
			result := node1(downAt(test.down...), test.machines, address, frontend)
			if len(result.State.Servers) != 1 {
				t.Fatalf("servers %v, problems %v", result.State.Servers, problems(result))
			}
			if diff := cmp.Diff(test.want, lines(result.State.Servers[0].Backends)); diff != "" {
				t.Errorf("backends (-want +got):\n%s", diff)
			}
			if count := part(result, address).Backends.String(); count != test.count {
				t.Errorf("count %s, want %s", count, test.count)
			}
			var short string
			for _, s := range part(result, address).Short {
				short += fmt.Sprintf("%s of %d %s", s.Count, s.Quorum, s.Instead)
			}
			if short != test.short {
				t.Errorf("short is %q, want %q", short, test.short)
			}
		})
	}
}

func TestAPolicyThatCannotBeReadClosesThePort(t *testing.T) {
	for text, check := range map[string]v1alpha1.HealthCheck{
		`healthCheck.whenAllFail "Ajar" is not one of Open, Closed`:                    {WhenAllFail: "Ajar"},
		`healthCheck.lastResort has "192.0.2.80", which is not an address with a port`: {LastResort: []string{"192.0.2.80"}},
		`healthCheck.lastResort has "192.0.2.80:0"`:                                    {LastResort: []string{"192.0.2.80:0"}},
	} {
		frontend := web()
		frontend.HealthCheck = &check
		result := node1(nil, nil, "10.87.2.10", frontend)
		if problem := fmt.Sprint(part(result, "10.87.2.10").Problem); !strings.Contains(problem, text) || len(result.State.Servers) != 0 {
			t.Errorf("problem %q with servers %v, want %q and none", problem, result.State.Servers, text)
		}
	}
}
