package source

import (
	"errors"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// Annotations by which a Service says for itself what its pool says for all.
const (
	// AnnotationBackend is a kind of backends: Pods, NodePort or Nodes.
	AnnotationBackend = v1alpha1.GroupName + "/backend"
	// AnnotationBackendPort is the port of backends of kind Nodes.
	AnnotationBackendPort = v1alpha1.GroupName + "/backend-port"
	// AnnotationBackendNodes selects nodes of the kinds NodePort and Nodes, by a label selector (role=ingress).
	AnnotationBackendNodes = v1alpha1.GroupName + "/backend-nodes"
	// AnnotationForwarding is Masquerade, Direct or Tunnel.
	AnnotationForwarding = v1alpha1.GroupName + "/forwarding"
	// AnnotationScheduler is the name of an IPVS scheduler.
	AnnotationScheduler = v1alpha1.GroupName + "/scheduler"
	// AnnotationHealthCheck is a health check as a pool has it, in YAML or JSON ({type: HTTP, port: 1936}).
	AnnotationHealthCheck = v1alpha1.GroupName + "/health-check"
)

// maxAffinity is the longest sessionAffinityConfig.clientIP.timeoutSeconds that the API server takes, in seconds; it fills in
// defaultAffinity where nothing is said (k8s.io/api/core/v1, DefaultClientIPServiceAffinitySeconds).
const (
	maxAffinity     = 86400
	defaultAffinity = corev1.DefaultClientIPServiceAffinitySeconds
)

// settings are what a Service says of all its frontends. An error joins one *Error for each value that cannot be used.
func settings(svc *corev1.Service) (v1alpha1.Frontend, error) {
	var out v1alpha1.Frontend
	var errs [4]error
	out.Backends, errs[0] = backends(svc)
	out.HealthCheck, errs[3] = healthCheck(svc)
	out.Forwarding, errs[1] = oneOf(svc, AnnotationForwarding, v1alpha1.ForwardMasquerade, v1alpha1.ForwardDirect, v1alpha1.ForwardTunnel)
	out.Scheduler, errs[2] = oneOf(svc, AnnotationScheduler, v1alpha1.Schedulers...)
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		out.ExternalTrafficPolicy, out.HealthCheckNodePort = svc.Spec.ExternalTrafficPolicy, svc.Spec.HealthCheckNodePort
	}
	if svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		out.AffinitySeconds = defaultAffinity
		if config := svc.Spec.SessionAffinityConfig; config != nil && config.ClientIP != nil && config.ClientIP.TimeoutSeconds != nil {
			out.AffinitySeconds = min(*config.ClientIP.TimeoutSeconds, maxAffinity)
		}
	}
	return out, errors.Join(errs[:]...)
}

// healthCheck is that which a Service asks for, nil if it leaves that to its pool. What its fields may be the API server knows.
func healthCheck(svc *corev1.Service) (*v1alpha1.HealthCheck, error) {
	text := annotation(svc, AnnotationHealthCheck)
	if text == "" {
		return nil, nil
	}
	out := &v1alpha1.HealthCheck{}
	if err := yaml.UnmarshalStrict([]byte(text), out); err != nil {
		return nil, &Error{"annotation " + AnnotationHealthCheck, text, "is not a health check (" + err.Error() + ")",
			"write fields of a pool's healthCheck (kubectl explain ippool.spec.healthCheck) as in {type: HTTP, port: 1936, path: /healthz}"}
	}
	return out, nil
}

func annotation(svc *corev1.Service, name string) string {
	return strings.TrimSpace(svc.Annotations[name])
}

// oneOf reads an annotation that has one of some words, in upper or lower case; "" if there is none.
func oneOf[T ~string](svc *corev1.Service, name string, words ...T) (T, error) {
	text := annotation(svc, name)
	if text == "" {
		return "", nil
	}
	known := make([]string, 0, len(words))
	for _, word := range words {
		if strings.EqualFold(text, string(word)) {
			return word, nil
		}
		known = append(known, string(word))
	}
	return "", &Error{"annotation " + name, text, "is not known", "write one of " + strings.Join(known, ", ")}
}

// backends are those that a Service asks for, nil if it leaves that to its pool.
func backends(svc *corev1.Service) (*v1alpha1.Backends, error) {
	kind, err := oneOf(svc, AnnotationBackend, v1alpha1.BackendPods, v1alpha1.BackendNodePort, v1alpha1.BackendNodes)
	if err != nil {
		return nil, err
	}
	port, nodes := annotation(svc, AnnotationBackendPort), annotation(svc, AnnotationBackendNodes)
	switch {
	case port != "" && kind != v1alpha1.BackendNodes:
		return nil, &Error{"annotation " + AnnotationBackendPort, port, "is for backends of kind Nodes",
			"add annotation " + AnnotationBackend + ": Nodes, or remove it"}
	case nodes != "" && kind != v1alpha1.BackendNodes && kind != v1alpha1.BackendNodePort:
		return nil, &Error{"annotation " + AnnotationBackendNodes, nodes, "is for backends of the kinds Nodes and NodePort",
			"add annotation " + AnnotationBackend + ": Nodes or NodePort, or remove it"}
	case kind == "":
		return nil, nil
	}
	out := &v1alpha1.Backends{Kind: kind}
	if port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return nil, &Error{"annotation " + AnnotationBackendPort, port, "is not a port", "write a number from 1 to 65535"}
		}
		out.Port = int32(number)
	}
	if nodes != "" {
		if out.NodeSelector, err = metav1.ParseToLabelSelector(nodes); err != nil {
			return nil, &Error{"annotation " + AnnotationBackendNodes, nodes, "is not a label selector (" + err.Error() + ")",
				"write labels as in role=ingress,zone in (a,b)"}
		}
	}
	return out, nil
}
