package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/source"
)

func TestServicesGetAddresses(t *testing.T) {
	for _, tc := range []struct {
		name  string
		svc   *corev1.Service
		want  string
		event []string
	}{
		{"one family", service("web", "IPv4"), "192.0.2.0", []string{"Normal Allocated", `192.0.2.0 from IPPool "a"`}},
		{"the other family", service("web", "IPv6"), "2001:db8::", []string{"Allocated", `from IPPool "b"`}},
		{"both, in the order of the Service", service("web", "IPv6 IPv4"), "2001:db8::,192.0.2.0", []string{`"b" and 192.0.2.0 from`}},
		{"both, the other way round", service("web", "IPv4 IPv6"), "192.0.2.0,2001:db8::", nil},
		{"both required, from two pools", service("web", "IPv4 IPv6", required), "192.0.2.0,2001:db8::", nil},
		{"an address asked for", service("web", "IPv4", annotated(source.AnnotationAddresses, "192.0.2.2")), "192.0.2.2", nil},
		{"an address of one family asked for", service("web", "IPv4 IPv6", annotated(source.AnnotationAddresses, "2001:db8::7")), "192.0.2.0,2001:db8::7", nil},
		{"an address of a pool that does not assign by itself", service("web", "IPv4", annotated(source.AnnotationAddresses, "198.51.100.1")), "198.51.100.1", nil},
		{"a pool asked for", service("web", "IPv4", annotated(source.AnnotationPool, "manual")), "198.51.100.0", nil},
		{"our class", service("web", "IPv4", func(s *corev1.Service) { s.Spec.LoadBalancerClass = new(source.DefaultClass) }), "192.0.2.0", nil},
		{"as many of two families as there are", service("web", "IPv4 IPv6", annotated(source.AnnotationPool, "a")), "192.0.2.0",
			[]string{"Warning NotAsWished", `IPPool "a", which has no IPv6 address`, "keeps 192.0.2.0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.pool("a", 0, "192.0.2.0/30")
			w.pool("b", 0, "2001:db8::/64")
			w.pool("manual", 0, "198.51.100.0/30")
			manual, _ := w.fairlead.FairleadV1alpha1().IPPools().Get(w.ctx, "manual", metav1.GetOptions{})
			manual.Spec.AutoAssign = new(false)
			_, _ = w.fairlead.FairleadV1alpha1().IPPools().Update(w.ctx, manual, metav1.UpdateOptions{})
			w.start()
			w.create(tc.svc)
			w.wantIngress("web", tc.want)
			if tc.event != nil {
				w.wantEvent(tc.event...)
			}
			for _, entry := range w.get("web").Status.LoadBalancer.Ingress {
				if entry.IPMode == nil || *entry.IPMode != corev1.LoadBalancerIPModeProxy {
					t.Errorf("%s has not ipMode Proxy", entry.IP)
				}
			}
		})
	}
}

func TestServicesThatGetNothingAreToldWhy(t *testing.T) {
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		says []string
	}{
		{"an address of no pool", service("web", "IPv4", annotated(source.AnnotationAddresses, "203.0.113.9")),
			[]string{source.AnnotationAddresses, "203.0.113.9 is in no IPPool", `"full" 192.0.2.0/31`}},
		{"an address that another has", service("web", "IPv4", annotated(source.AnnotationAddresses, "192.0.2.1")),
			[]string{"192.0.2.1 is taken by Service default/", "ask for another"}},
		{"an address of another pool than the one asked for", service("web", "IPv6", annotated(source.AnnotationAddresses, "2001:db8::1"), annotated(source.AnnotationPool, "full")),
			[]string{`2001:db8::1 is in IPPool "six"`, `asks for "full"`}},
		{"an address of a pool that overlaps an older one", service("web", "IPv4", annotated(source.AnnotationAddresses, "192.0.2.3")),
			[]string{"192.0.2.3", `IPPool "younger" alone`, "Overlap"}},
		{"a pool that does not exist", service("web", "IPv4", annotated(source.AnnotationPool, "edge")), []string{`IPPool "edge", which does not exist`, "pools: "}},
		{"a pool that overlaps", service("web", "IPv4", annotated(source.AnnotationPool, "younger")), []string{`"younger", which gives no address`, `older IPPool "full"`}},
		{"a pool that is wrong", service("web", "IPv4", annotated(source.AnnotationPool, "reversed")), []string{"Invalid", "write 203.0.113.1-203.0.113.5"}},
		{"all full", service("web", "IPv4"), []string{"no IPv4 address is free", `IPPool "full": 2 of 2 allocated`}},
		{"both required, one full", service("web", "IPv4 IPv6", required), []string{"RequireDualStack", "no IPv4 address is free"}},
		{"a bad annotation", service("web", "IPv4", annotated(source.AnnotationAddresses, "192.0.2.x")), []string{`holds "192.0.2.x"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.pool("full", time.Hour, "192.0.2.0/31")
			w.pool("younger", time.Minute, "192.0.2.1-192.0.2.4")
			w.pool("reversed", 0, "203.0.113.5-203.0.113.1")
			w.pool("six", 0, "2001:db8::/64")
			w.start()
			for _, name := range []string{"one", "two"} {
				w.create(service(name, "IPv4"))
			}
			w.wantEvent("Allocated")
			w.wantEvent("Allocated")
			before := w.allocated()
			w.create(tc.svc)
			w.wantEvent(append(tc.says, "Warning AllocationFailed")...)
			w.quiet()
			if got := w.allocated(); got != before || w.ingress("web") != "" {
				t.Errorf("VIPs %s, ingress %s", got, w.ingress("web"))
			}
		})
	}
}

func TestNoPoolExists(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.create(service("web", "IPv4"))
	w.wantEvent("AllocationFailed", "no IPPool exists", "create one")
	w.pool("a", 0, "192.0.2.0/30")
	w.wantIngress("web", "192.0.2.0")
}

func TestServicesThatAreNotOursAreLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start(func(c *Config) { c.Rules.Classless = false })
	theirs := []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
	for i, change := range []func(*corev1.Service){
		func(*corev1.Service) {},
		func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("example.com/lb") },
		func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort },
	} {
		svc := service(fmt.Sprint("svc", i), "IPv4", change)
		svc.Status.LoadBalancer.Ingress = theirs
		w.create(svc)
	}
	for _, write := range w.quiet() {
		if !strings.Contains(write, "ippools") && !strings.HasPrefix(write, "create services") {
			t.Errorf("wrote %s", write)
		}
	}
}

func TestAddressesAreReleased(t *testing.T) {
	for name, end := range map[string]func(*world){
		"when the Service is deleted": func(w *world) { w.deleteService("web") },
		"when its type changes":       func(w *world) { w.edit("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }) },
		"when its class changes": func(w *world) {
			w.edit("web", func(s *corev1.Service) { s.Spec.LoadBalancerClass = new("example.com/lb") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pool("a", 0, "192.0.2.0/30", "2001:db8::/126")
			c, _ := w.start()
			w.create(service("web", "IPv4 IPv6"))
			w.wantIngress("web", "192.0.2.0,2001:db8::")
			end(w)
			w.wantVIPs("")
			if name != "when the Service is deleted" {
				w.wantIngress("web", "")
				w.wantEvent("Normal Released", "192.0.2.0, 2001:db8::")
			}
			w.eventually("addresses are free in the book", func() string {
				if n := c.book.usage()["a"]["IPv4"].Allocated; n.Sign() != 0 {
					return n.String() + " used"
				}
				return ""
			})
			w.create(service("next", "IPv4"))
			w.wantIngress("next", "192.0.2.0")
		})
	}
}

func TestNothingLeaksWhileTheControllerIsDown(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	_, stop := w.start()
	w.create(service("gone", "IPv4"))
	w.wantIngress("gone", "192.0.2.0")
	w.create(service("again", "IPv4"))
	w.wantIngress("again", "192.0.2.1")
	w.create(service("cluster", "IPv4"))
	w.wantIngress("cluster", "192.0.2.2")
	stop()
	w.deleteService("gone")
	w.deleteService("again")
	w.create(service("again", "IPv4")) // the same name, another UID
	w.edit("cluster", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	w.start()
	w.eventually("one VIP, of the new Service", func() string {
		vips := w.vips()
		if len(vips) != 1 || vips[0].Spec.Frontends[0].Service.UID != string(w.get("again").UID) {
			return w.allocated()
		}
		return ""
	})
	w.wantIngress("cluster", "")
}

func TestNothingChangedNothingWritten(t *testing.T) {
	w := newWorld(t)
	w.pool("a", time.Hour, "192.0.2.0/29", "2001:db8::/64")
	w.pool("overlapping", 0, "192.0.2.1")
	_, stop := w.start()
	for i := range 10 { // two of them wait
		w.create(service(fmt.Sprint("svc", i), "IPv4"))
	}
	w.create(service("dual", "IPv6 IPv4"))
	w.quiet()
	stop()
	w.start(func(c *Config) { c.Resync = time.Second })
	time.Sleep(1500 * time.Millisecond)
	w.edit("dual", func(s *corev1.Service) { s.Labels = map[string]string{"a": "b"} })
	w.quietBut(t, "update services dual")
	for len(w.events.Events) > 0 {
		<-w.events.Events
	}
	time.Sleep(1200 * time.Millisecond)
	if n := len(w.events.Events); n > 0 {
		t.Errorf("%d events in a resync, the first %s", n, <-w.events.Events)
	}
}

func (w *world) quietBut(t *testing.T, expected string) {
	t.Helper()
	for _, write := range w.quiet() {
		if write != expected {
			t.Errorf("wrote %s", write)
		}
	}
}

func TestTamperedStatusIsRepaired(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start()
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	for _, ingress := range [][]corev1.LoadBalancerIngress{nil, {{IP: "198.51.100.1"}}, {{IP: "192.0.2.0"}}, {{IP: "192.0.2.0"}, {Hostname: "x"}}} {
		w.edit("web", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = ingress })
		w.eventually("status", func() string {
			got := w.get("web").Status.LoadBalancer.Ingress
			if len(got) != 1 || got[0].IP != "192.0.2.0" || got[0].IPMode == nil {
				return fmt.Sprint(got)
			}
			return ""
		})
	}
}
