package tests

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// TestEveryNodeTellsWhetherItHasPodsOfALocalService: at its healthCheckNodePort, for load balancers outside the cluster. kube-proxy
// serves it, and the speaker on a node that has none.
func TestEveryNodeTellsWhetherItHasPodsOfALocalService(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	webAs(t, s, "told", func(svc *corev1.Service) {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}, "n1", "n2")
	service, err := s.Core.CoreV1().Services(scenario.Namespace).Get(ctx, "told", metav1.GetOptions{})
	must(t, err)
	port := uint16(service.Spec.HealthCheckNodePort)
	pods := map[string]bool{"n1": true, "n2": true}
	has, hasNot := "n1", "n3"
	proxied := hasKubeProxy(t, s)
	for _, node := range everyNode {
		wantNodeHealth(t, s, node, port, pods[node], !proxied)
	}
	if proxied {
		for _, node := range []string{has, hasNot} {
			must(t, s.Fault(ctx, cluster.StopKubeProxy, node))
			defer func() { must(t, s.Fault(context.WithoutCancel(ctx), cluster.StartKubeProxy, node)) }()
		}
		for _, node := range []string{has, hasNot} {
			wantNodeHealth(t, s, node, port, pods[node], true)
		}
	}
	must(t, s.SetPodReady(ctx, "told-1", false))
	wantNodeHealth(t, s, has, port, false, true)
	must(t, s.SetPodReady(ctx, "told-1", true))
	wantNodeHealth(t, s, has, port, true, true)
	if proxied {
		for _, node := range []string{has, hasNot} {
			must(t, s.Fault(ctx, cluster.StartKubeProxy, node))
			wantNodeHealth(t, s, node, port, pods[node], false)
		}
	}
}

// hasKubeProxy reports whether kube-proxy runs in the cluster.
func hasKubeProxy(t *testing.T, s *scenario.Scenario) bool {
	t.Helper()
	processes, err := s.Processes(t.Context())
	must(t, err)
	for _, process := range processes {
		if strings.HasPrefix(process.Name, "kube-proxy-") {
			return true
		}
	}
	return false
}

// wantNodeHealth waits until the speaker serves a healthCheckNodePort of a node, or somebody else does, and until it says there by
// both families whether the node has ready pods.
func wantNodeHealth(t *testing.T, s *scenario.Scenario, node string, port uint16, pods, speaker bool) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		sockets, err := s.Output(ctx, node, "ss", "-Hltnp", "sport", "=", fmt.Sprint(port))
		if err == nil && (sockets == "" || strings.Contains(sockets, "fairlead") != speaker) {
			err = fmt.Errorf("healthCheckNodePort %d of node %s is served by %q, want the speaker: %v", port, node, sockets, speaker)
		}
		return err
	}))
	want := "503"
	if pods {
		want = "200"
	}
	for _, is4 := range []bool{true, false} {
		addr := nodeAddress(t, s, node, is4)
		must(t, scenario.Until(ctx, func() error {
			status, err := s.Output(ctx, "client", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "2",
				fmt.Sprintf("http://%s/healthz", netip.AddrPortFrom(addr, port)))
			if err == nil && status != want {
				err = fmt.Errorf("%s says %s on healthCheckNodePort %d, want %s", addr, status, port, want)
			}
			return err
		}))
	}
}
