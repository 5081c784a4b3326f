package tests

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// ports of everyProtocol's Services, with URL schemes of the prober.
var ports = []struct {
	scheme   string
	protocol corev1.Protocol
	port     int32
}{
	{"http", corev1.ProtocolTCP, 80}, {"tcp", corev1.ProtocolTCP, 9000}, {"udp", corev1.ProtocolUDP, 9000}, {"sctp", corev1.ProtocolSCTP, 9000},
}

// everyProtocol makes a Service of the cluster's families that listens by TCP, UDP and SCTP, with a pod on each of the nodes,
// and returns its addresses. It ends with the test.
func everyProtocol(t *testing.T, s *scenario.Scenario, name string, nodes ...string) []netip.Addr {
	t.Helper()
	ctx := within(t.Context(), t)
	for i, node := range nodes {
		_, err := s.AddPod(ctx, cluster.Pod{
			Name: fmt.Sprintf("%s-%d", name, i+1), Namespace: scenario.Namespace, Node: node,
			Labels: map[string]string{"app": name}, Listen: []string{"http:8080", "tcp:9000", "udp:9000", "sctp:9000"},
		})
		must(t, err)
	}
	return expose(t, s, scenario.Service(name, func(service *corev1.Service) {
		for _, p := range ports[1:] {
			service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
				Name: p.scheme, Protocol: p.protocol, Port: p.port, TargetPort: intstr.FromInt32(p.port),
			})
		}
	}), families(t, s), len(nodes))
}

// families is how many address families the cluster has.
func families(t *testing.T, s *scenario.Scenario) int {
	t.Helper()
	hosts, err := s.Hosts(t.Context())
	must(t, err)
	for _, host := range hosts {
		if host.Role == cluster.RoleClient {
			return len(host.Addresses)
		}
	}
	t.Fatal("the cluster has no client")
	return 0
}
