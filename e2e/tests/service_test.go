package tests

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/e2e/scenario"
)

func TestAServiceAnswersOnBothItsAddressesFromEverywhere(t *testing.T) {
	s, _ := connect(t)
	pool(t, s)
	addresses := web(t, s, "everywhere", "n1", "n2")
	for _, addr := range addresses {
		for _, host := range []string{"client", "far", "n1", "n2", "n3", "everywhere-1"} {
			t.Run(fmt.Sprintf("%s from %s", family(addr), host), func(t *testing.T) {
				by := map[string]bool{}
				for range 12 {
					name, _, _ := strings.Cut(answers(t, s, host, addr, 80), " ")
					by[name] = true
				}
				if len(by) != 2 {
					t.Errorf("12 requests were answered by %v, not by both backends", by)
				}
			})
		}
	}
}

func family(addr netip.Addr) string {
	if addr.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func TestOnlyTheHolderHasTheAddressAndEveryNodeIsReadyToTakeIt(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	for _, addr := range web(t, s, "holder", "n1") {
		answers(t, s, "client", addr, 80)
		holder, err := s.Holder(within(ctx, t), addr, "")
		must(t, err)
		nodes, err := s.Nodes(ctx)
		must(t, err)
		for _, node := range nodes {
			must(t, scenario.Until(within(ctx, t), func() error {
				traces, err := scenario.Traces(ctx, s.Cluster, node, addr)
				if err != nil {
					return err
				}
				want := fmt.Sprintf("[IPVS service %s nftables element %s]", addr, addr)
				if node == holder {
					want = fmt.Sprintf("[address %s IPVS service %s nftables element %s]", addr, addr, addr)
				}
				if got := fmt.Sprint(traces); got != want {
					return fmt.Errorf("node %s has %s, want %s (holder %s)", node, got, want, holder)
				}
				return nil
			}))
		}
	}
}

func nodeAddress(t testing.TB, s *scenario.Scenario, node string, is4 bool) netip.Addr {
	t.Helper()
	hosts, err := s.Hosts(t.Context())
	must(t, err)
	for _, host := range hosts {
		for _, addr := range host.Addresses {
			if host.Name == node && addr.Is4() == is4 {
				return addr
			}
		}
	}
	t.Fatalf("node %s has no such address", node)
	return netip.Addr{}
}

func TestSourceRangesAreEnforced(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	for _, addr := range web(t, s, "ranges", "n1") {
		answers(t, s, "far", addr, 80)
	}
	// The client on the LAN, not the one behind the router.
	patch := `{"spec":{"loadBalancerSourceRanges":["10.87.0.0/16","fd87::/64"]}}`
	_, err := s.Core.CoreV1().Services(scenario.Namespace).Patch(ctx, "ranges", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	must(t, err)
	addresses, err := s.Addresses(within(ctx, t), "ranges", 2)
	must(t, err)
	for _, addr := range addresses {
		must(t, scenario.Until(within(ctx, t), func() error {
			if out, err := s.Output(ctx, "far", "curl", "-s", "--max-time", "1", scenario.URL(addr, 80)); err == nil {
				return fmt.Errorf("a client outside of the source ranges got %q from %s", out, addr)
			}
			return nil
		}))
		answers(t, s, "client", addr, 80)
	}
}

func TestBackendsFollowReadiness(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := web(t, s, "ready", "n1", "n2")
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
	must(t, s.SetPodReady(ctx, "ready-1", false))
	for _, addr := range addresses {
		must(t, scenario.Until(within(ctx, t), func() error {
			vip, err := s.VIP(ctx, addr)
			if err != nil {
				return err
			}
			if vip.Status.Backends != "1/2" {
				return fmt.Errorf("VIP %s has backends %s, want 1/2", addr, vip.Status.Backends)
			}
			return nil
		}))
		for range 12 {
			if by := answers(t, s, "client", addr, 80); !strings.HasPrefix(by, "ready-2 ") {
				t.Errorf("%s was answered by %q, which is not ready", addr, by)
			}
		}
	}
}

func TestAPortThatIsAddedAnswers(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := web(t, s, "ports", "n2")
	service, err := s.Core.CoreV1().Services(scenario.Namespace).Get(ctx, "ports", metav1.GetOptions{})
	must(t, err)
	service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
		Name: "alt", Port: 8000, TargetPort: service.Spec.Ports[0].TargetPort, Protocol: corev1.ProtocolTCP,
	})
	_, err = s.Core.CoreV1().Services(scenario.Namespace).Update(ctx, service, metav1.UpdateOptions{})
	must(t, err)
	for _, addr := range addresses {
		answers(t, s, "client", addr, 8000)
		answers(t, s, "client", addr, 80)
	}
}

func TestChangingTheTypeGivesTheAddressesBack(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := web(t, s, "typed", "n1")
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
	_, err := s.Core.CoreV1().Services(scenario.Namespace).Patch(ctx, "typed", types.MergePatchType,
		[]byte(`{"spec":{"type":"ClusterIP"}}`), metav1.PatchOptions{})
	must(t, err)
	must(t, s.Gone(within(ctx, t), addresses...))
}
