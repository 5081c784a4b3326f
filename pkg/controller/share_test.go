package controller

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/source"
)

func shares(key string) func(*corev1.Service) { return annotated(source.AnnotationShareKey, key) }

func local(selector string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		svc.Spec.Selector = map[string]string{"app": selector}
	}
}

func TestServicesShareAnAddress(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/29", "2001:db8::/64")
	w.start()
	w.create(service("web", "IPv4 IPv6", shares("k")))
	w.wantIngress("web", "192.0.2.0,2001:db8::")
	w.create(service("tls", "IPv6 IPv4", shares("k"), port(443)))
	w.wantIngress("tls", "2001:db8::,192.0.2.0")
	for _, tc := range []struct {
		svc  *corev1.Service
		want string
	}{
		{service("same-port", "IPv4", shares("k")), "192.0.2.1"},
		{service("other-key", "IPv4", shares("l"), port(53)), "192.0.2.2"},
		{service("no-key", "IPv4", port(54)), "192.0.2.3"},
		{service("local", "IPv4", shares("k"), port(55), local("x")), "192.0.2.4"},
		{service("local-too", "IPv4", shares("k"), port(56), local("x")), "192.0.2.4"},
		{service("other-local", "IPv4", shares("k"), port(57), local("y")), "192.0.2.5"},
	} {
		w.create(tc.svc)
		w.wantIngress(tc.svc.Name, tc.want)
	}
	w.deleteService("web")
	w.wantVIPs("192.0.2.0=tls 192.0.2.1=same-port 192.0.2.2=other-key 192.0.2.3=no-key 192.0.2.4=local+local-too 192.0.2.5=other-local " +
		"2001:db8::=tls")
	w.create(service("web", "IPv4", shares("k")))
	w.wantIngress("web", "192.0.2.0")
}

func TestSharingAcrossNamespacesNeedsBoth(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start()
	with := func(name, namespace, others string, number int32) *corev1.Service {
		svc := service(name, "IPv4", shares("k"), port(number))
		svc.Namespace = namespace
		if others != "" {
			svc.Annotations[source.AnnotationShareNamespaces] = others
		}
		return svc
	}
	w.create(with("one", "team-a", "team-b", 80))
	w.wantVIPs("192.0.2.0=one")
	w.create(with("two", "team-b", "", 81)) // does not agree
	w.wantVIPs("192.0.2.0=one 192.0.2.1=two")
	w.create(with("three", "team-b", "*", 82))
	w.wantVIPs("192.0.2.0=one+three 192.0.2.1=two")
	w.create(with("four", "team-c", "*", 83)) // one does not agree
	w.wantVIPs("192.0.2.0=one+three 192.0.2.1=two 192.0.2.2=four")
}

func TestAnAddressThatIsAskedForIsSharedOrRefused(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/29")
	w.start()
	asks := annotated(source.AnnotationAddresses, "192.0.2.0")
	w.create(service("web", "IPv4", shares("k")))
	w.wantIngress("web", "192.0.2.0")
	w.create(service("joins", "IPv4", shares("k"), port(443), asks))
	w.wantIngress("joins", "192.0.2.0")
	w.create(service("clashes", "IPv4", shares("k"), asks))
	w.wantCondition("clashes", "False", "192.0.2.0 cannot be shared: port 80/TCP is that of Service default/web")
	w.create(service("no-key", "IPv4", port(8080), asks))
	w.wantCondition("no-key", "False", "192.0.2.0 is taken by Service default/web, Service default/joins")
	w.deleteService("web")
	w.wantIngress("clashes", "192.0.2.0") // the port is free now
}

func TestSharersThatAreCreatedAtOnceShare(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/29")
	for i := range 6 {
		w.create(service(string(rune('a'+i)), "IPv4", shares("k"), port(int32(80+i))))
	}
	w.start()
	w.wantVIPs("192.0.2.0=a+b+c+d+e+f")
}

func TestTheYoungerServiceLeavesWhenSharingEnds(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/29")
	w.start()
	old := service("old", "IPv4", shares("k"))
	old.CreationTimestamp.Time = time.Now().Add(-time.Hour)
	w.create(old)
	w.wantIngress("old", "192.0.2.0")
	w.create(service("young", "IPv4", shares("k"), port(443)))
	w.wantIngress("young", "192.0.2.0")
	w.edit("old", func(s *corev1.Service) { delete(s.Annotations, source.AnnotationShareKey) })
	w.wantIngress("young", "192.0.2.1")
	w.wantVIPs("192.0.2.0=old 192.0.2.1=young")
	w.wantIngress("old", "192.0.2.0")
}

func TestAPortThatASharerHasStaysClosedAndIsTold(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/29")
	w.start()
	w.create(service("web", "IPv4", shares("k")))
	w.wantIngress("web", "192.0.2.0")
	w.create(service("tls", "IPv4", shares("k"), port(443)))
	w.wantIngress("tls", "192.0.2.0")
	w.edit("tls", func(s *corev1.Service) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "clash", Port: 80, Protocol: corev1.ProtocolTCP})
	})
	w.wantCondition("tls", "True NotAsWished", "port 80/TCP of 192.0.2.0 is that of Service default/web", "keeps 192.0.2.0")
	w.wantVIPs("192.0.2.0=web+tls")
	w.deleteService("web")
	w.wantVIPs("192.0.2.0=tls+tls")
	w.wantCondition("tls", "True Allocated")
}

func TestAServiceWhoseEveryPortIsTakenMoves(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/31")
	w.start()
	w.create(service("web", "IPv4", shares("k")))
	w.wantIngress("web", "192.0.2.0")
	w.create(service("tls", "IPv4", shares("k"), port(443)))
	w.wantIngress("tls", "192.0.2.0")
	w.edit("tls", port(80))
	w.wantIngress("tls", "192.0.2.1")
	w.wantVIPs("192.0.2.0=web 192.0.2.1=tls")
}

func TestMetalLBsAnnotationsShare(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/29")
	w.start(func(c *Config) { c.Rules.Foreign = true })
	for i, namespace := range []string{"one", "two"} {
		svc := service("dns", "IPv4", annotated("metallb.io/allow-shared-ip", "dns"), port(int32(53+i)))
		svc.Namespace = namespace
		w.create(svc)
	}
	w.wantVIPs("192.0.2.0=dns+dns")
}
