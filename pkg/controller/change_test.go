package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

func TestDeletedVIPIsMadeAgainWithItsAddress(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start()
	for i := range 4 {
		w.create(service(fmt.Sprint("svc", i), "IPv4"))
		w.wantIngress(fmt.Sprint("svc", i), fmt.Sprint("192.0.2.", i))
	}
	w.create(service("waiting", "IPv4"))
	w.wantEvent("AllocationFailed")
	if err := w.fairlead.FairleadV1alpha1().VIPs().Delete(w.ctx, "192.0.2.2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("VIP", func() string {
		_, err := w.fairlead.FairleadV1alpha1().VIPs().Get(w.ctx, "192.0.2.2", metav1.GetOptions{})
		return errText(err)
	})
	w.quiet()
	if got := w.ingress("svc2") + " " + w.ingress("waiting"); got != "192.0.2.2 " {
		t.Errorf("svc2 and waiting have %q", got)
	}
}

func TestFamiliesComeAndGoAlone(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30", "2001:db8::/64")
	w.start()
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	uid := w.vips()[0].UID
	w.edit("web", func(s *corev1.Service) { s.Spec = service("web", "IPv4 IPv6").Spec })
	w.wantIngress("web", "192.0.2.0,2001:db8::")
	w.edit("web", func(s *corev1.Service) { s.Spec = service("web", "IPv4").Spec })
	w.wantIngress("web", "192.0.2.0")
	w.wantVIPs("192.0.2.0=web")
	w.wantEvent("Released", "2001:db8::")
	if w.vips()[0].UID != uid {
		t.Error("the IPv4 address was released in between")
	}
}

func TestRequiredFamiliesAreAllOrNothing(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start()
	w.create(service("web", "IPv4 IPv6", required))
	w.wantEvent("AllocationFailed", "RequireDualStack")
	if writes := w.quiet(); len(writes) == 0 || w.allocated() != "" {
		t.Errorf("VIPs %s", w.allocated())
	}
	w.pool("b", 0, "2001:db8::/64")
	w.wantIngress("web", "192.0.2.0,2001:db8::")
}

func TestAskingForAnotherAddressMovesOnlyWhenItCanBeHad(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start()
	w.create(service("other", "IPv4", annotated(source.AnnotationAddresses, "192.0.2.3")))
	w.wantIngress("other", "192.0.2.3")
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	w.edit("web", annotated(source.AnnotationAddresses, "192.0.2.3"))
	w.wantEvent("NotAsWished", "taken by Service default/other", "keeps 192.0.2.0")
	w.wantIngress("web", "192.0.2.0")
	w.deleteService("other")
	w.wantIngress("web", "192.0.2.3")
	w.wantVIPs("192.0.2.3=web")
}

func TestFreedAddressesGoToTheOldestThatWaits(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/31")
	w.start()
	w.create(service("one", "IPv4"))
	w.wantIngress("one", "192.0.2.0")
	w.create(service("two", "IPv4"))
	w.wantIngress("two", "192.0.2.1")
	age := func(minutes int) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Duration(minutes) * time.Minute).Truncate(time.Second))
		}
	}
	for i, minutes := range []int{3, 9, 1, 7, 5} {
		w.create(service(fmt.Sprint("wait", i), "IPv4", age(minutes)))
		w.wantEvent("AllocationFailed")
	}
	w.deleteService("two")
	w.wantVIPs("192.0.2.0=one 192.0.2.1=wait1")
	w.deleteService("one")
	w.wantVIPs("192.0.2.0=wait3 192.0.2.1=wait1")
	w.deleteService("wait1")
	w.wantVIPs("192.0.2.0=wait3 192.0.2.1=wait4")
}

func TestTwoControllersNeverShareAnAddress(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/26", "2001:db8::/64")
	w.start()
	w.start()
	const services = 40
	for i := range services {
		w.create(service(fmt.Sprint("svc", i), "IPv4 IPv6"))
	}
	w.eventually("one VIP of each family for each Service", func() string {
		count := map[string]int{}
		for _, vip := range w.vips() {
			for _, f := range vip.Spec.Frontends {
				if f.Service.Name != vip.Spec.Frontends[0].Service.Name {
					t.Fatalf("%s is shared", vip.Name)
				}
			}
			count[vip.Spec.Frontends[0].Service.Name]++
		}
		for i := range services {
			name := fmt.Sprint("svc", i)
			if count[name] != 2 || strings.Count(w.ingress(name), ",") != 1 {
				return fmt.Sprintf("%s has %d VIPs and shows %s", name, count[name], w.ingress(name))
			}
		}
		return ""
	})
	w.quiet()
	for i := range services {
		for addr := range strings.SplitSeq(w.ingress(fmt.Sprint("svc", i)), ",") {
			if got := w.allocated(); !strings.Contains(got+" ", fmt.Sprintf("%s=svc%d ", addr, i)) {
				t.Errorf("svc%d shows %s, allocated are %s", i, addr, got)
			}
		}
	}
}

func TestAnAddressThatAnotherControllerTookIsSkipped(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start()
	w.mu.Lock()
	w.before = func(write string) error {
		if write == "create vips 192.0.2.0" { // the other one is faster, and our cache does not show it yet
			w.mu.Lock()
			w.before = nil
			w.mu.Unlock()
			vip := &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.0", UID: "theirs", ResourceVersion: "1"},
				Spec: v1alpha1.VIPSpec{Address: "192.0.2.0"}} // of nobody that this controller would release it for
			if err := w.fairlead.Tracker().Add(vip); err != nil { // the clientset is locked by the creation under way
				t.Error(err)
			}
		}
		return nil
	}
	w.mu.Unlock()
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.1")
}

func TestFailedWritesAreRetried(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30", "2001:db8::/64")
	w.start()
	failures := map[string]int{"create vips": 2, "patch services": 2, "delete vips": 2, "update vips": 1}
	w.mu.Lock()
	w.before = func(write string) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for prefix, n := range failures {
			if strings.HasPrefix(write, prefix) && n > 0 {
				failures[prefix]--
				return apierrors.NewInternalError(fmt.Errorf("injected"))
			}
		}
		return nil
	}
	w.mu.Unlock()
	w.create(service("web", "IPv4 IPv6", required))
	w.wantIngress("web", "192.0.2.0,2001:db8::")
	w.edit("web", func(s *corev1.Service) { s.Spec.Ports[0].Port = 8080 })
	w.eventually("frontends", func() string {
		for _, vip := range w.vips() {
			if vip.Spec.Frontends[0].Port != 8080 {
				return vip.Name + " has the old port"
			}
		}
		return ""
	})
	w.deleteService("web")
	w.wantVIPs("")
}

func TestVIPFollowsPoolAndService(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start()
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	object, _ := w.fairlead.FairleadV1alpha1().IPPools().Get(w.ctx, "a", metav1.GetOptions{})
	object.Spec.Interfaces = []string{"eth1"}
	object.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"edge": "true"}}
	if _, err := w.fairlead.FairleadV1alpha1().IPPools().Update(w.ctx, object, metav1.UpdateOptions{}); err != nil {
		t.Skip("lost against a status write:", err)
	}
	w.eventually("settings", func() string {
		if spec := w.vips()[0].Spec; len(spec.Interfaces) != 1 || spec.NodeSelector == nil || spec.Pool != "a" {
			return fmt.Sprint(spec)
		}
		return ""
	})
	if err := w.fairlead.FairleadV1alpha1().IPPools().Delete(w.ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.quiet()
	if spec := w.vips()[0].Spec; len(spec.Interfaces) != 1 || w.ingress("web") != "192.0.2.0" {
		t.Errorf("with its pool gone the VIP became %+v", spec)
	}
}

func TestVIPThatWasNeverSeenIsForgotten(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/31")
	c, _ := w.start()
	c.observeUnseen(vipOf("192.0.2.0")) // an answer about an object that is gone before the cache shows it
	w.create(service("one", "IPv4"))
	w.wantIngress("one", "192.0.2.1")
	w.create(service("two", "IPv4"))
	w.wantEvent("AllocationFailed")
	w.wantIngress("two", "192.0.2.0")
}
