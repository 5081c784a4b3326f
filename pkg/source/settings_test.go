package source

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func TestAServiceSaysForItselfHowItIsServed(t *testing.T) {
	affinity := func(seconds int32) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
		}
	}
	local := func(svc *corev1.Service) {
		svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort = corev1.ServiceExternalTrafficPolicyLocal, 32000
	}
	for name, tc := range map[string]struct {
		change []func(*corev1.Service)
		want   v1alpha1.Frontend
	}{
		"nothing":             {},
		"scheduler":           {[]func(*corev1.Service){annotate(AnnotationScheduler, "WLC")}, v1alpha1.Frontend{Scheduler: "wlc"}},
		"forwarding":          {[]func(*corev1.Service){annotate(AnnotationForwarding, "tunnel")}, v1alpha1.Frontend{Forwarding: v1alpha1.ForwardTunnel}},
		"kind":                {[]func(*corev1.Service){annotate(AnnotationBackend, "nodeport")}, v1alpha1.Frontend{Backends: &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort}}},
		"affinity":            {[]func(*corev1.Service){affinity(600)}, v1alpha1.Frontend{AffinitySeconds: 600}},
		"affinity by default": {[]func(*corev1.Service){func(svc *corev1.Service) { svc.Spec.SessionAffinity = "ClientIP" }}, v1alpha1.Frontend{AffinitySeconds: 10800}},
		"health check": {
			[]func(*corev1.Service){annotate(AnnotationHealthCheck, `{type: HTTP, port: 1936, path: /healthz}`)},
			v1alpha1.Frontend{HealthCheck: &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTP, Port: 1936, Path: "/healthz"}},
		},
		"traffic policy Local": {[]func(*corev1.Service){local}, v1alpha1.Frontend{ExternalTrafficPolicy: "Local", HealthCheckNodePort: 32000}},
		"nodes by label, at a port": {
			[]func(*corev1.Service){annotate(AnnotationBackend, "Nodes"), annotate(AnnotationBackendPort, "8080"), annotate(AnnotationBackendNodes, "role=ingress")},
			v1alpha1.Frontend{Backends: &v1alpha1.Backends{
				Kind: v1alpha1.BackendNodes, Port: 8080, NodeSelector: &metav1.LabelSelector{
					MatchLabels: map[string]string{"role": "ingress"}, MatchExpressions: []metav1.LabelSelectorRequirement{},
				},
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service(tc.change...)
			tc.want.Port, tc.want.Protocol = 80, corev1.ProtocolTCP
			tc.want.Service = v1alpha1.ServiceReference{Namespace: "default", Name: "web", UID: "u1"}
			request, err := Rules{}.Request(svc)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]v1alpha1.Frontend{tc.want}, request.Frontends(corev1.IPv4Protocol)); diff != "" {
				t.Errorf("frontends (-want +got):\n%s", diff)
			}
			mapped, err := Target{Method: MethodDR}.Frontends(svc, corev1.IPv4Protocol, "a/b")
			tc.want.Service.UID, tc.want.ConfigMap, tc.want.Forwarding = "", "a/b", v1alpha1.ForwardDirect
			if diff := cmp.Diff([]v1alpha1.Frontend{tc.want}, mapped); diff != "" || err != nil {
				t.Errorf("by a ConfigMap: error %v, frontends (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestSettingsThatCannotBeAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"a scheduler":           {map[string]string{AnnotationScheduler: "fastest"}, `"fastest" is not known: write one of rr, wrr,`},
		"a way of forwarding":   {map[string]string{AnnotationForwarding: "GRE"}, "write one of Masquerade, Direct, Tunnel"},
		"listed backends":       {map[string]string{AnnotationBackend: "Static"}, "write one of Pods, NodePort, Nodes"},
		"a port of pods":        {map[string]string{AnnotationBackendPort: "80"}, "is for backends of kind Nodes"},
		"a port that is none":   {map[string]string{AnnotationBackend: "Nodes", AnnotationBackendPort: "http"}, "write a number from 1 to 65535"},
		"nodes of pods":         {map[string]string{AnnotationBackend: "Pods", AnnotationBackendNodes: "a=b"}, "is for backends of the kinds Nodes and NodePort"},
		"a field of no check":   {map[string]string{AnnotationHealthCheck: "{type: HTTP, url: /}"}, `unknown field "url"`},
		"a check that is none":  {map[string]string{AnnotationHealthCheck: "http"}, "as in {type: HTTP, port: 1936, path: /healthz}"},
		"a selector of nothing": {map[string]string{AnnotationBackend: "Nodes", AnnotationBackendNodes: "a b"}, "is not a label selector"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Rules{}.Request(service(func(svc *corev1.Service) { svc.Annotations = tc.annotations }))
			if said := (*Error)(nil); !errors.As(err, &said) || !strings.HasPrefix(said.Field, "annotation fairlead.dev/") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one of an annotation that says %q", err, tc.want)
			}
		})
	}
}
