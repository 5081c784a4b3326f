package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func (w *world) wantPool(name, counts, ready string) {
	w.Helper()
	w.eventually("status of pool "+name, func() string {
		object, err := w.fairlead.FairleadV1alpha1().IPPools().Get(w.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		got := ""
		for _, u := range []*v1alpha1.FamilyUsage{object.Status.IPv4, object.Status.IPv6} {
			if u != nil {
				got += fmt.Sprintf("%s/%s/%s ", u.Capacity, u.Allocated, u.Available)
			}
		}
		condition := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.PoolReady)
		if condition == nil {
			return "no condition"
		}
		is := fmt.Sprintf("%s %s: %s", condition.Status, condition.Reason, condition.Message)
		if strings.TrimSpace(got) != counts || !strings.HasPrefix(is, ready) {
			return fmt.Sprintf("%q %q, want %q %q", got, is, counts, ready)
		}
		return ""
	})
}

func TestPoolStatus(t *testing.T) {
	w := newWorld(t)
	w.pool("a", time.Hour, "192.0.2.0/31", "2001:db8::/64")
	w.pool("b", time.Minute, "198.51.100.0/30", "192.0.2.1-192.0.2.9")
	w.pool("c", 0, "203.0.113.9-203.0.113.1", "203.0.113.20")
	w.start()
	w.wantPool("a", "2/0/2 18446744073709551616/0/18446744073709551616", "True AddressesAvailable: IPv4 and IPv6 addresses are available")
	w.wantPool("b", "13/0/13", `False Overlap: 192.0.2.1-192.0.2.9 shares 192.0.2.1 with 192.0.2.0/31 of the older IPPool "a"`)
	w.wantPool("c", "", `False Invalid: spec.addresses: "203.0.113.9-203.0.113.1" ends before it begins: write 203.0.113.1-203.0.113.9`)
	w.wantEvent("Warning Overlap", `older IPPool "a"`)
	w.create(service("one", "IPv4 IPv6"))
	w.create(service("two", "IPv4"))
	w.wantPool("a", "2/2/0 18446744073709551616/1/18446744073709551615", "True AddressesAvailable: IPv6 addresses are available; none of IPv4: 2 of 2")
	w.wantPool("b", "13/1/12", "False Overlap")
	w.wantEvent("Normal AddressesAvailable", "none of IPv4: 2 of 2")
	if err := w.fairlead.FairleadV1alpha1().IPPools().Delete(w.ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wantPool("b", "13/1/12", "True AddressesAvailable")
	w.create(service("three", "IPv4"))
	w.wantIngress("three", "192.0.2.2")
}

func TestExhaustedPool(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.1")
	w.start()
	w.create(service("one", "IPv4"))
	w.wantPool("a", "1/1/0", "False Exhausted: IPv4: 1 of 1 addresses allocated; add a range")
	w.deleteService("one")
	w.wantPool("a", "1/0/1", "True AddressesAvailable")
}

func TestPoolsThatOverlapAreOrderedByAgeThenName(t *testing.T) {
	made := metav1.NewTime(time.Unix(1e9, 0))
	object := func(name string, at metav1.Time, addresses ...v1alpha1.AddressRange) *v1alpha1.IPPool {
		return &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: at}, Spec: v1alpha1.IPPoolSpec{Addresses: addresses}}
	}
	states := resolvePools([]*v1alpha1.IPPool{
		object("c", made, "192.0.2.0/30"),
		object("b", made, "192.0.2.3-192.0.2.8"),
		object("a", metav1.NewTime(made.Add(time.Second)), "192.0.2.8-192.0.2.9"), // overlaps b alone, which is older
		object("d", metav1.NewTime(made.Add(-time.Second)), "198.51.100.0/30"),
	})
	var got []string
	for _, s := range states {
		got = append(got, s.name()+"="+s.reason)
	}
	if want := "a=Overlap b= c=Overlap d="; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// wantVIPCondition waits for a condition of a VIP that begins with want, as "status reason: message".
func (w *world) wantVIPCondition(name, kind, want string) {
	w.Helper()
	w.eventually("condition "+kind+" of VIP "+name, func() string {
		vip, err := w.fairlead.FairleadV1alpha1().VIPs().Get(w.ctx, name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		c := meta.FindStatusCondition(vip.Status.Conditions, kind)
		if c == nil {
			return "none"
		}
		if got := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message); !strings.HasPrefix(got, want) {
			return fmt.Sprintf("%q, want %q", got, want)
		}
		return ""
	})
}
