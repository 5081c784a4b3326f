package controller

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

func mapped(c *Config) { c.ConfigMaps = []ConfigMapSource{{Namespace: "kube-system", Name: "vips"}} }

// configMap makes or replaces ConfigMap kube-system/vips; its entries are keys and values in turn.
func (w *world) configMap(entries ...string) {
	w.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "vips"}, Data: map[string]string{}}
	for i := 0; i < len(entries); i += 2 {
		cm.Data[entries[i]] = entries[i+1]
	}
	_, err := w.core.CoreV1().ConfigMaps(cm.Namespace).Create(w.ctx, cm, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = w.core.CoreV1().ConfigMaps(cm.Namespace).Update(w.ctx, cm, metav1.UpdateOptions{})
	}
	if err != nil {
		w.Fatal(err)
	}
}

func ofType(kind corev1.ServiceType, ports ...int32) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.Ports = kind, nil
		for _, p := range ports {
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", p), Port: p})
		}
	}
}

// wantMapped waits for all VIPs with their frontends, as "address=name:port+… …".
func (w *world) wantMapped(want string) {
	w.Helper()
	w.eventually("VIPs", func() string {
		var all []string
		for _, vip := range w.vips() {
			var frontends []string
			for _, f := range vip.Spec.Frontends {
				frontends = append(frontends, fmt.Sprintf("%s:%d", f.Service.Name, f.Port))
			}
			all = append(all, vip.Spec.Address+"="+strings.Join(frontends, "+"))
		}
		if got := strings.Join(all, " "); got != want {
			return fmt.Sprintf("%q, want %q", got, want)
		}
		return ""
	})
}

func TestAConfigMapMapsAddresses(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	_, stop := w.start(mapped)
	w.create(service("nginx", "IPv4 IPv6", ofType(corev1.ServiceTypeClusterIP, 80, 443)))
	w.create(service("dns", "IPv4", ofType(corev1.ServiceTypeNodePort, 53)))
	w.configMap("203.0.113.5", "default/nginx", "192.0.2.1", "default/dns:NAT", "2001-0db8-0000-0000-0000-0000-0000-0007", "default/nginx",
		"203.0.113.6", "")
	all := "192.0.2.1=dns:53 2001:db8::7=nginx:80+nginx:443 203.0.113.5=nginx:80+nginx:443 203.0.113.6="
	w.wantMapped(all)
	w.wantPool("a", "4/1/3", "True")
	w.wantEvent("Normal Mapped 203.0.113.6 is up for no Service")
	w.wantVIPCondition("203.0.113.5", v1alpha1.VIPMapped, "True Mapped")
	w.quiet()
	stop()
	w.start(mapped)
	if writes := w.quiet(); len(writes) > 0 {
		t.Errorf("a restart wrote %v", writes)
	}
	w.edit("dns", func(s *corev1.Service) { s.Spec.Ports[0].Port = 5353 })
	w.wantMapped(strings.Replace(all, "dns:53", "dns:5353", 1))
	w.configMap("203.0.113.5", "default/nginx", "192.0.2.2", "default/dns, default/nginx")
	w.wantMapped("192.0.2.2=nginx:80+nginx:443+dns:5353 203.0.113.5=nginx:80+nginx:443")
	if err := w.core.CoreV1().ConfigMaps("kube-system").Delete(w.ctx, "vips", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wantMapped("")
	w.configMap("203.0.113.5", "default/nginx")
	w.wantMapped("203.0.113.5=nginx:80+nginx:443")
}

func TestAServiceThatIsMissingCostsTheAddressNothing(t *testing.T) {
	w := newWorld(t)
	w.start(mapped)
	w.configMap("203.0.113.5", "default/nginx")
	w.wantMapped("203.0.113.5=")
	w.wantEvent("Warning BadEntry", `key "203.0.113.5": Service default/nginx does not exist: create it`, "203.0.113.5 stays up")
	w.wantVIPCondition("203.0.113.5", v1alpha1.VIPMapped, "False NotAsMapped: ConfigMap kube-system/vips: ")
	w.create(service("nginx", "IPv4", ofType(corev1.ServiceTypeClusterIP, 80)))
	w.wantMapped("203.0.113.5=nginx:80")
	w.wantVIPCondition("203.0.113.5", v1alpha1.VIPMapped, "True")
	uid := w.vips()[0].UID
	w.deleteService("nginx")
	w.wantMapped("203.0.113.5=")
	if w.vips()[0].UID != uid {
		t.Error("the address went with its Service")
	}
}

func TestBadEntriesAreTold(t *testing.T) {
	w := newWorld(t)
	w.start(mapped)
	w.create(service("nginx", "IPv4", ofType(corev1.ServiceTypeClusterIP, 80)))
	w.create(service("other", "IPv4", ofType(corev1.ServiceTypeClusterIP, 80, 81)))
	w.configMap("203.0.113.5", "default/nginx\ndefault/other")
	w.wantEvent("Warning BadEntry", "Service default/other has port 80/TCP, and so has Service default/nginx")
	w.wantMapped("203.0.113.5=nginx:80+other:81")
	w.configMap("203.0.113.5", "default/nginx\nnonsense", "203.0.113.500", "default/nginx", "127.0.0.1", "default/nginx", "203.0.113.6", "default/other:PROXY",
		"203.0.113.7", "default/other:DR", "2001-0db8-0000-0000-0000-0000-0000-0007", "default/nginx")
	w.wantEvent(`"nonsense" names no Service: write namespace/service`)
	w.wantEvent(`key "203.0.113.500"`)
	w.wantEvent(`key "127.0.0.1"`, "loopback")
	w.wantEvent(`key "203.0.113.6"`, "PROXY protocol is not available")
	w.wantEvent("has no IPv6 endpoints", "add IPv6 to its spec.ipFamilies")
	// What a line that cannot be read now had put there stays, until it can be read.
	w.wantMapped("2001:db8::7=nginx:80 203.0.113.5=nginx:80+other:81 203.0.113.6= 203.0.113.7=other:80+other:81")
	for _, vip := range w.vips() {
		if f := vip.Spec.Frontends; vip.Name == "203.0.113.7" && f[0].Forwarding != v1alpha1.ForwardDirect {
			t.Errorf("%s is mapped by DR, and its frontend is forwarded by %q", vip.Name, f[0].Forwarding)
		}
	}
	w.configMap("203.0.113.5", "default/nginx")
	w.wantMapped("203.0.113.5=nginx:80")
}

func TestAMappedAddressThatAServiceHasIsNotTaken(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start(mapped)
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	w.create(service("nginx", "IPv4", ofType(corev1.ServiceTypeClusterIP, 8080)))
	w.configMap("192.0.2.0", "default/nginx", "192.0.2.1", "default/nginx")
	w.wantEvent("BadEntry", `key "192.0.2.0": 192.0.2.0 is taken by Service default/web`)
	w.wantMapped("192.0.2.0=web:80 192.0.2.1=nginx:8080")
	w.create(service("auto", "IPv4"))
	w.wantIngress("auto", "192.0.2.2")
	w.create(service("asks", "IPv4", annotated(source.AnnotationAddresses, "192.0.2.1")))
	w.wantCondition("asks", "False", "192.0.2.1 is taken by ConfigMap kube-system/vips")
	w.deleteService("web")
	w.wantMapped("192.0.2.0=nginx:8080 192.0.2.1=nginx:8080 192.0.2.2=auto:80")
}

func TestConfigMapsBySelector(t *testing.T) {
	w := newWorld(t)
	w.create(service("nginx", "IPv4", ofType(corev1.ServiceTypeClusterIP, 80)))
	w.start(func(c *Config) {
		c.ConfigMaps = []ConfigMapSource{{Namespace: "fairlead-system", Selector: labels.SelectorFromSet(labels.Set{"vips": "yes"})}}
	})
	cm := func(name, label, addr string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: name, Labels: map[string]string{"vips": label}},
			Data: map[string]string{addr: "default/nginx"}}
	}
	for _, object := range []*corev1.ConfigMap{cm("a", "yes", "203.0.113.1"), cm("b", "yes", "203.0.113.2"), cm("c", "no", "203.0.113.3")} {
		if _, err := w.core.CoreV1().ConfigMaps("fairlead-system").Create(w.ctx, object, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w.wantMapped("203.0.113.1=nginx:80 203.0.113.2=nginx:80")
}

func TestAConfigMapThatIsNoSourceAnyMoreMapsNothing(t *testing.T) {
	w := newWorld(t)
	_, stop := w.start(mapped)
	w.configMap("203.0.113.5", "")
	w.wantMapped("203.0.113.5=")
	w.quiet()
	stop()
	w.start()
	w.wantMapped("")
}

func TestWithoutTheRightToReadConfigMapsAllElseWorks(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	_, stop := w.start(mapped)
	w.configMap("203.0.113.5", "")
	w.wantMapped("203.0.113.5=")
	w.quiet()
	stop()
	w.forbid("configmaps")
	w.start(mapped)
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	w.wantMapped("192.0.2.0=web:80 203.0.113.5=")
}

func TestAServiceMappedToTheAddressThatItHasKeepsIt(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start(mapped)
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	w.configMap("192.0.2.0", "default/web")
	w.wantOwners("192.0.2.0:ConfigMap/vips")
	w.edit("web", port(81))
	w.wantMapped("192.0.2.0=web:81")
	w.quiet()
	if f := w.vips()[0].Spec.Frontends[0]; f.ConfigMap != "" || f.Service.UID == "" || w.ingress("web") != "192.0.2.0" {
		t.Errorf("%+v, %s", f, w.ingress("web"))
	}
	w.edit("web", func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP })
	w.wantIngress("web", "")
	w.wantMapped("192.0.2.0=web:81")
}
