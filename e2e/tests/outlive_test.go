package tests

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// TestConnectionsOutliveTheirHolder moves a VIP there and back under connections to nodes behind it.
func TestConnectionsOutliveTheirHolder(t *testing.T) {
	s, _ := connect(t)
	serve(t, s, "n3", "tcp:9000")
	for _, forwarding := range []v1alpha1.Forwarding{v1alpha1.ForwardMasquerade, v1alpha1.ForwardDirect, v1alpha1.ForwardTunnel} {
		t.Run(string(forwarding), func(t *testing.T) {
			hosts := func(names ...string) *metav1.LabelSelector {
				return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: "In", Values: names}}}
			}
			poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) {
				spec.NodeSelector, spec.Forwarding = hosts("n1", "n2"), forwarding
				spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, NodeSelector: hosts("n3")}
			})
			addresses := webAs(t, s, "outlive-"+strings.ToLower(string(forwarding)), func(svc *corev1.Service) {
				svc.Spec.Ports = []corev1.ServicePort{{Name: "lines", Port: 9000, TargetPort: intstr.FromInt32(9000)}}
			})
			for _, addr := range addresses {
				listens(t, s, addr)
				var open []*conversation
				for _, host := range []string{"client", "far", "client", "far"} {
					c, _ := converse(t, s, host, addr, 9000)
					open = append(open, c)
				}
				for range 2 {
					moveAway(t, s, addr)
					for _, c := range open {
						if by := c.say(); by != "n3" {
							t.Errorf("%s was answered by %s in a connection to n3", addr, by)
						}
					}
				}
			}
		})
	}
}
