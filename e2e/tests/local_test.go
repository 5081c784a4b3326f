package tests

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// TestALocalServiceIsWhereItsPodsAre: its address is on a node with a ready pod, which sees the client, and moves with it.
func TestALocalServiceIsWhereItsPodsAre(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := webAs(t, s, "local", func(svc *corev1.Service) {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}, "n1", "n2")
	pods := map[string]string{"n1": "local-1", "n2": "local-2"}
	for _, addr := range addresses {
		wantLocal(t, s, addr, pods)
		for _, host := range []string{"n1", "n2", "n3", "local-1", "local-2"} {
			answers(t, s, host, addr, 80) // whatever address is seen: they are in the cluster
		}
	}
	for node, pod := range pods {
		must(t, s.SetPodReady(ctx, pod, false))
		for _, addr := range addresses {
			wantLocal(t, s, addr, map[string]string{other(node): pods[other(node)]})
		}
		must(t, s.SetPodReady(ctx, pod, true))
		for _, addr := range addresses {
			wantLocal(t, s, addr, pods)
		}
	}
	for _, pod := range pods {
		must(t, s.SetPodReady(ctx, pod, false))
	}
	for _, addr := range addresses {
		must(t, scenario.Until(within(ctx, t), func() error {
			vip, err := s.VIP(ctx, addr)
			if err != nil {
				return err
			}
			for _, condition := range vip.Status.Conditions {
				if condition.Type == v1alpha1.VIPHeld && condition.Status == metav1.ConditionFalse &&
					strings.Contains(condition.Message, "no ready pod of Service default/local runs there (externalTrafficPolicy Local)") {
					return nil
				}
			}
			return fmt.Errorf("conditions of VIP %s: %v", addr, vip.Status.Conditions)
		}))
	}
}

func other(node string) string {
	if node == "n1" {
		return "n2"
	}
	return "n1"
}

// wantLocal waits until an address answers from outside by the pod of the node that holds it, which sees the client.
func wantLocal(t *testing.T, s *scenario.Scenario, addr netip.Addr, pods map[string]string) {
	t.Helper()
	ctx := within(t.Context(), t)
	for _, host := range []string{"client", "far"} {
		must(t, scenario.Until(ctx, func() error {
			holder, err := s.Holder(ctx, addr, "")
			if err != nil {
				return err
			}
			by, err := s.Output(ctx, host, "curl", "-s", "--max-time", "1", scenario.URL(addr, 80))
			if err != nil {
				return err
			}
			if want := pods[holder] + " " + nodeAddress(t, s, host, addr.Is4()).String(); by != want {
				return fmt.Errorf("%s on %s is answered by %q, want %q", addr, holder, by, want)
			}
			return nil
		}))
	}
}
