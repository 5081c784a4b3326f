package controller

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// cases of one Service among pools that nobody else uses: what it asks for and what it gets.
var shuffled = []struct {
	name string
	svc  func(name string) *corev1.Service
	edit func(*corev1.Service) // afterwards
	want string                // EXTERNAL-IP
	says string                // part of the condition
}{
	{name: "one family", svc: func(n string) *corev1.Service { return service(n, "IPv4") }, want: "192.0.2.0", says: "True Allocated"},
	{name: "the other", svc: func(n string) *corev1.Service { return service(n, "IPv6") }, want: "2001:db8::", says: "True Allocated"},
	{name: "both", svc: func(n string) *corev1.Service { return service(n, "IPv6 IPv4") }, want: "2001:db8::,192.0.2.0", says: "True Allocated"},
	{name: "both required", svc: func(n string) *corev1.Service { return service(n, "IPv4 IPv6", required) }, want: "192.0.2.0,2001:db8::", says: "True Allocated"},
	{name: "an address", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", annotated(source.AnnotationAddresses, "192.0.2.3"))
	}, want: "192.0.2.3", says: "True Allocated"},
	{name: "spec.loadBalancerIP", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.2" })
	}, want: "192.0.2.2", says: "True Allocated"},
	{name: "an address of no pool", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", annotated(source.AnnotationAddresses, "203.0.113.3"))
	}, says: "is in no IPPool"},
	{name: "a pool that only asks get", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", annotated(source.AnnotationPool, "asked"))
	}, want: "198.51.100.0", says: `from IPPool "asked"`},
	{name: "a pool of the other family", svc: func(n string) *corev1.Service {
		return service(n, "IPv6", annotated(source.AnnotationPool, "asked"))
	}, says: "has no IPv6 address"},
	{name: "a pool for others", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", annotated(source.AnnotationPool, "others"))
	}, says: "is for other Services (namespaces elsewhere)"},
	{name: "nonsense", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", annotated(source.AnnotationAddresses, "web.example"))
	}, says: "which is not an IP address"},
	{name: "nonsense, corrected", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", annotated(source.AnnotationAddresses, "web.example"))
	}, edit: annotated(source.AnnotationAddresses, "192.0.2.1"), want: "192.0.2.1", says: "True Allocated"},
	{name: "a key nobody shares", svc: func(n string) *corev1.Service { return service(n, "IPv4", shares(n)) }, want: "192.0.2.0", says: "True"},
	{name: "without NodePorts", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", func(s *corev1.Service) { s.Spec.AllocateLoadBalancerNodePorts = new(bool) })
	}, want: "192.0.2.0", says: "True Allocated"},
	{name: "our class", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", func(s *corev1.Service) { s.Spec.LoadBalancerClass = new(source.DefaultClass) })
	}, want: "192.0.2.0", says: "True Allocated"},
	{name: "another class", svc: func(n string) *corev1.Service {
		return service(n, "IPv4", func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("example.com/lb") })
	}},
	{name: "one family added", svc: func(n string) *corev1.Service { return service(n, "IPv4") },
		edit: func(s *corev1.Service) { s.Spec = service("", "IPv4 IPv6").Spec }, want: "192.0.2.0,2001:db8::", says: "True Allocated"},
	{name: "the order turned", svc: func(n string) *corev1.Service { return service(n, "IPv4 IPv6") },
		edit: func(s *corev1.Service) { s.Spec = service("", "IPv6 IPv4").Spec }, want: "2001:db8::,192.0.2.0", says: "True Allocated"},
	{name: "one family dropped", svc: func(n string) *corev1.Service { return service(n, "IPv4 IPv6") },
		edit: func(s *corev1.Service) { s.Spec = service("", "IPv6").Spec }, want: "2001:db8::", says: "True Allocated"},
	{name: "tampered status", svc: func(n string) *corev1.Service { return service(n, "IPv4") },
		edit: func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.3"}}
		}, want: "192.0.2.0", says: "True"},
	{name: "no longer ours", svc: func(n string) *corev1.Service { return service(n, "IPv4") },
		edit: func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }},
}

// TestHistoryDoesNotMatter plays the same cases against one controller in another order each time: a Service gets what it asks
// for, whatever was there before.
func TestHistoryDoesNotMatter(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30", "2001:db8::/126")
	w.poolWith("asked", func(s *v1alpha1.IPPoolSpec) { s.AutoAssign = new(bool) }, "198.51.100.0/30")
	w.poolWith("others", func(s *v1alpha1.IPPoolSpec) { s.Namespaces = []string{"elsewhere"} }, "203.0.113.128/30")
	controller, _ := w.start()
	for round := range 100 {
		for _, i := range rand.New(rand.NewPCG(uint64(round), 5)).Perm(len(shuffled)) {
			tc := shuffled[i]
			name := fmt.Sprintf("svc-%d-%d", round, i)
			svc := w.create(tc.svc(name))
			if tc.edit != nil {
				w.wantProcessed(name)
				w.edit(name, tc.edit)
			}
			w.eventually(fmt.Sprintf("round %d, %s", round, tc.name), func() string {
				if got := w.ingress(name); got != tc.want {
					return fmt.Sprintf("EXTERNAL-IP %q, want %q (%s)", got, tc.want, w.condition(name))
				}
				return ""
			})
			if tc.says == "" {
				w.wantNoCondition(name)
			} else {
				w.wantCondition(name, tc.says)
			}
			w.deleteService(svc.Name)
			w.wantVIPs("")
			w.eventually("the book", func() string { // which learns of it from the answer to the deletion
				for name, families := range controller.book.usage() {
					for family, usage := range families {
						if usage.Allocated.Sign() != 0 {
							return fmt.Sprintf("pool %s has given %s addresses of %s", name, usage.Allocated, family)
						}
					}
				}
				return ""
			})
		}
	}
}

// wantProcessed waits until the controller said something about a Service.
func (w *world) wantProcessed(name string) {
	w.Helper()
	w.eventually("condition of "+name, func() string {
		if w.condition(name) == "" {
			return "none"
		}
		return ""
	})
}

func (w *world) wantNoCondition(name string) {
	w.Helper()
	w.eventually("condition of "+name, func() string { return w.condition(name) })
}
