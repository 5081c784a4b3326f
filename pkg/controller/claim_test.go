package controller

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

func (w *world) vip(name string, spec v1alpha1.VIPSpec) {
	w.Helper()
	object := &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	if _, err := w.fairlead.FairleadV1alpha1().VIPs().Create(w.ctx, object, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) deleteVIP(name string) {
	w.Helper()
	if err := w.fairlead.FairleadV1alpha1().VIPs().Delete(w.ctx, name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
}

// wantOwners waits for the VIP objects that have owners, as "name:kind/owner+… …".
func (w *world) wantOwners(want string) {
	w.Helper()
	w.eventually("owners", func() string {
		var all []string
		for _, vip := range w.vips() {
			var owners []string
			for _, o := range vip.Spec.Owners {
				owners = append(owners, o.Kind+"/"+o.Name)
			}
			if len(owners) > 0 {
				all = append(all, vip.Name+":"+strings.Join(owners, "+"))
			}
		}
		if got := strings.Join(all, " "); got != want {
			return fmt.Sprintf("%q, want %q", got, want)
		}
		return ""
	})
}

func (w *world) wantAddress(claim, want string) {
	w.Helper()
	w.eventually("address of claim "+claim, func() string {
		vip, err := w.fairlead.FairleadV1alpha1().VIPs().Get(w.ctx, claim, metav1.GetOptions{})
		if err != nil || vip.Spec.Address != want {
			return fmt.Sprintf("%q, %v, want %q", vip.Spec.Address, err, want)
		}
		return ""
	})
}

func TestAClaimReservesAnAddress(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30", "2001:db8::/64")
	w.poolWith("asked", func(s *v1alpha1.IPPoolSpec) { no := false; s.AutoAssign = &no }, "198.51.100.0/30")
	_, stop := w.start()
	w.vip("web", v1alpha1.VIPSpec{})
	w.wantAddress("web", "192.0.2.0")
	w.wantVIPCondition("web", v1alpha1.VIPBound, "True AddressReserved: has 192.0.2.0")
	w.vip("six", v1alpha1.VIPSpec{Family: corev1.IPv6Protocol})
	w.wantAddress("six", "2001:db8::")
	w.vip("from-pool", v1alpha1.VIPSpec{Pool: "asked"})
	w.wantAddress("from-pool", "198.51.100.0")
	w.vip("named", v1alpha1.VIPSpec{Address: "192.0.2.2"})
	w.vip("outside", v1alpha1.VIPSpec{Address: "203.0.113.7"})
	owners := "192.0.2.0:VIP/web 192.0.2.2:VIP/named 198.51.100.0:VIP/from-pool 2001-0db8-0000-0000-0000-0000-0000-0000:VIP/six 203.0.113.7:VIP/outside"
	w.wantOwners(owners)
	w.create(service("auto", "IPv4"))
	w.wantIngress("auto", "192.0.2.1")
	w.create(service("asks", "IPv4", annotated(source.AnnotationAddresses, "192.0.2.0")))
	w.wantIngress("asks", "192.0.2.0")
	w.deleteService("asks")
	w.quiet()
	stop()
	w.start()
	if writes := w.quiet(); len(writes) > 0 {
		t.Errorf("a restart wrote %v", writes)
	}
	w.wantOwners(owners)
	w.deleteVIP("web")
	w.wantOwners(strings.TrimPrefix(owners, "192.0.2.0:VIP/web "))
	w.create(service("next", "IPv4"))
	w.wantIngress("next", "192.0.2.0")
}

func TestAClaimThatCannotBeMetSaysWhyAndWaits(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/32")
	w.start()
	w.vip("first", v1alpha1.VIPSpec{})
	w.wantAddress("first", "192.0.2.0")
	w.vip("second", v1alpha1.VIPSpec{})
	w.wantVIPCondition("second", v1alpha1.VIPBound, "False AllocationFailed: no IPv4 address is free")
	w.vip("same", v1alpha1.VIPSpec{Address: "192.0.2.0"})
	w.wantVIPCondition("same", v1alpha1.VIPBound, "False AllocationFailed: spec.address: 192.0.2.0 is taken by claim first")
	w.vip("no-pool", v1alpha1.VIPSpec{Pool: "edge"})
	w.wantVIPCondition("no-pool", v1alpha1.VIPBound, `False AllocationFailed: spec.pool asks for IPPool "edge", which does not exist`)
	w.vip("loopback", v1alpha1.VIPSpec{Address: "127.0.0.1"})
	w.wantVIPCondition("loopback", v1alpha1.VIPBound, `False AllocationFailed: spec.address: "127.0.0.1" holds addresses of 127.0.0.0/8`)
	w.deleteVIP("first")
	w.wantAddress("second", "192.0.2.0")
}

func TestAReservationOfAUserIsKept(t *testing.T) {
	w := newWorld(t)
	w.poolWith("a", func(s *v1alpha1.IPPoolSpec) { s.Interfaces = []string{"eth1"} }, "192.0.2.0/30")
	w.start()
	w.vip("192.0.2.0", v1alpha1.VIPSpec{Address: "192.0.2.0", NodeSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"mine": "yes"}}})
	w.quiet()
	w.create(service("auto", "IPv4"))
	w.wantIngress("auto", "192.0.2.1")
	w.create(service("asks", "IPv4", annotated(source.AnnotationAddresses, "192.0.2.0")))
	w.wantIngress("asks", "192.0.2.0")
	w.deleteService("asks")
	w.wantVIPs("192.0.2.0= 192.0.2.1=auto")
	vip, err := w.fairlead.FairleadV1alpha1().VIPs().Get(w.ctx, "192.0.2.0", metav1.GetOptions{})
	if err != nil || vip.Spec.Pool != "a" || vip.Spec.Interfaces[0] != "eth1" || vip.Spec.NodeSelector.MatchLabels["mine"] != "yes" {
		t.Errorf("%+v, %v", vip.Spec, err)
	}
}

func TestAClaimThatWentWhileNobodyLookedIsReleased(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	_, stop := w.start()
	w.vip("gone", v1alpha1.VIPSpec{})
	w.wantAddress("gone", "192.0.2.0")
	w.vip("again", v1alpha1.VIPSpec{Address: "192.0.2.1"})
	w.wantOwners("192.0.2.0:VIP/gone 192.0.2.1:VIP/again")
	w.quiet()
	stop()
	w.deleteVIP("gone")
	w.deleteVIP("again")
	w.vip("again", v1alpha1.VIPSpec{Address: "192.0.2.2"}) // the same name, another claim
	w.start()
	w.wantOwners("192.0.2.2:VIP/again")
	w.eventually("its VIP is gone", func() string {
		if _, err := w.fairlead.FairleadV1alpha1().VIPs().Get(w.ctx, "192.0.2.0", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return "it exists"
		}
		return ""
	})
}
