package controller

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

func selector(key, value string) []metav1.LabelSelector {
	return []metav1.LabelSelector{{MatchLabels: map[string]string{key: value}}}
}

func TestExcludedAndAvoidedAddressesAreNeverGiven(t *testing.T) {
	w := newWorld(t)
	w.poolWith("a", func(s *v1alpha1.IPPoolSpec) {
		s.AvoidBuggyIPs, s.AvoidGatewayIPs, s.Exclude = true, true, []v1alpha1.AddressRange{"192.0.2.2-192.0.2.4"}
	}, "192.0.2.0/29")
	w.start()
	w.wantPool("a", "3/0/3", "True AddressesAvailable")
	w.create(service("one", "IPv4"))
	w.wantIngress("one", "192.0.2.5")
	for _, addr := range []string{"192.0.2.0", "192.0.2.3"} {
		w.create(service("asks-"+addr[8:], "IPv4", annotated(source.AnnotationAddresses, addr)))
		w.wantCondition("asks-"+addr[8:], "False AllocationFailed", addr+` is left out of IPPool "a"`, "ask for another")
	}
	w.editPool("a", func(s *v1alpha1.IPPoolSpec) { s.Exclude = nil })
	w.wantIngress("asks-3", "192.0.2.3")
}

func TestPoolsAreTriedByPriorityThenLimitThenName(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/32")
	w.poolWith("z-limited", func(s *v1alpha1.IPPoolSpec) { s.Namespaces = []string{"default"} }, "192.0.2.1/32")
	w.poolWith("first", func(s *v1alpha1.IPPoolSpec) { s.Priority = 10 }, "192.0.2.2/32")
	w.poolWith("last", func(s *v1alpha1.IPPoolSpec) { s.Priority = -1 }, "192.0.2.3/32")
	w.start()
	for i, want := range []string{"192.0.2.2", "192.0.2.1", "192.0.2.0", "192.0.2.3"} {
		name := string(rune('a' + i))
		w.create(service(name, "IPv4"))
		w.wantIngress(name, want)
	}
}

func TestPoolsServeWhomTheyAreFor(t *testing.T) {
	w := newWorld(t)
	w.poolWith("by-name", func(s *v1alpha1.IPPoolSpec) {
		s.Namespaces, s.NamespaceSelectors = []string{"team-a"}, selector("tier", "edge")
	}, "192.0.2.0/30")
	w.poolWith("by-both", func(s *v1alpha1.IPPoolSpec) {
		s.NamespaceSelectors, s.ServiceSelectors = selector("kubernetes.io/metadata.name", "team-c"), selector("app", "dns")
	}, "198.51.100.0/30")
	w.namespace("team-a", nil)
	w.namespace("team-b", map[string]string{"tier": "edge"})
	w.namespace("team-c", map[string]string{"kubernetes.io/metadata.name": "team-c"})
	w.start()
	in := func(namespace string) func(*corev1.Service) {
		return func(svc *corev1.Service) { svc.Namespace = namespace }
	}
	for _, svc := range []*corev1.Service{
		service("a", "IPv4", in("team-a")), service("b", "IPv4", in("team-b")),
		service("c", "IPv4", in("team-c"), labelled("app", "dns")), service("none", "IPv4", in("team-c")),
		service("asks", "IPv4", annotated(source.AnnotationPool, "by-name")),
		service("asks-address", "IPv4", annotated(source.AnnotationAddresses, "198.51.100.1")),
	} {
		w.create(svc)
	}
	w.wantVIPs("192.0.2.0=a 192.0.2.1=b 198.51.100.0=c")
	w.wantEvent("no IPPool gives IPv4 addresses to it unasked", `for namespaces team-a or namespaces with "tier=edge"`,
		`for namespaces with "kubernetes.io/metadata.name=team-c" and Services with "app=dns"`)
	w.wantCondition("asks", `annotation fairlead.dev/pool asks for IPPool "by-name", which is for other Services (namespaces team-a`)
	w.wantCondition("asks-address", `is in IPPool "by-both", which is for other Services`)
	w.editPool("by-name", func(s *v1alpha1.IPPoolSpec) { s.Namespaces = append(s.Namespaces, "default") })
	w.wantIngress("asks", "192.0.2.2")
}

func TestANamespaceThatGetsALabelGetsAddresses(t *testing.T) {
	w := newWorld(t)
	w.poolWith("edge", func(s *v1alpha1.IPPoolSpec) { s.NamespaceSelectors = selector("tier", "edge") }, "192.0.2.0/30")
	w.namespace("default", nil)
	w.start()
	w.create(service("web", "IPv4"))
	w.wantEvent("AllocationFailed", "unasked")
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Labels: map[string]string{"tier": "edge"}}}
	if _, err := w.core.CoreV1().Namespaces().Update(w.ctx, ns, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wantIngress("web", "192.0.2.0")
}

func TestBothFamiliesComeFromOnePoolWhereOneHasBoth(t *testing.T) {
	w := newWorld(t)
	w.pool("a4", 0, "192.0.2.0/30")
	w.pool("b6", 0, "2001:db8:b::/64")
	w.pool("c", 0, "198.51.100.0/32", "2001:db8:c::/64")
	w.start()
	w.create(service("web", "IPv6 IPv4", required))
	w.wantIngress("web", "2001:db8:c::,198.51.100.0")
	w.create(service("next", "IPv4 IPv6", required)) // c has no IPv4 left: from two pools
	w.wantIngress("next", "192.0.2.0,2001:db8:c::1")
	w.create(service("single", "IPv6"))
	w.wantIngress("single", "2001:db8:b::")
}

func TestRenamedAndSplitPoolsLoseNothing(t *testing.T) {
	w := newWorld(t)
	w.pool("old", time.Hour, "192.0.2.0/30")
	w.start()
	for i, name := range []string{"a", "b", "c"} {
		w.create(service(name, "IPv4"))
		w.wantIngress(name, fmt.Sprint("192.0.2.", i))
	}
	w.pool("low", time.Minute, "192.0.2.0/31")
	w.pool("high", time.Minute, "192.0.2.2/31")
	w.wantPool("low", "2/2/0", "False Overlap")
	w.deletePool("old")
	w.wantPool("low", "2/2/0", "False Exhausted")
	w.wantPool("high", "2/1/1", "True AddressesAvailable")
	w.eventually("the old pool is gone", func() string {
		if _, err := w.fairlead.FairleadV1alpha1().IPPools().Get(w.ctx, "old", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return "it exists"
		}
		return ""
	})
	w.wantCondition("c", `True Allocated: has 192.0.2.2 from IPPool "high"`)
	w.wantVIPs("192.0.2.0=a 192.0.2.1=b 192.0.2.2=c")
}

func TestAPoolThatIsDeletedWaitsForItsAddresses(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	w.start()
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	w.quiet()
	w.deletePool("a")
	w.wantPool("a", "4/1/3", "False Deleting: it is being deleted, and gives no address; it waits for addresses that no other pool holds: "+
		"192.0.2.0 of Service default/web")
	w.wantCondition("web", "True NotAsWished", `192.0.2.0 is of IPPool "a", which is being deleted`, "keeps 192.0.2.0")
	w.create(service("next", "IPv4"))
	w.wantCondition("next", "False AllocationFailed", "being deleted")
	w.deleteService("web")
	w.eventually("the pool is gone", func() string {
		if _, err := w.fairlead.FairleadV1alpha1().IPPools().Get(w.ctx, "a", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return "it exists"
		}
		return ""
	})
}

func TestAnAddressThatIsNotCoveredAnyMore(t *testing.T) {
	for _, tc := range []struct {
		policy v1alpha1.ReclaimPolicy
		want   string
	}{{v1alpha1.ReclaimRetain, "192.0.2.0"}, {"", "192.0.2.0"}, {v1alpha1.ReclaimReassign, "192.0.2.4"}} {
		t.Run("reclaim "+string(tc.policy), func(t *testing.T) {
			w := newWorld(t)
			w.poolWith("a", func(s *v1alpha1.IPPoolSpec) { s.Reclaim = tc.policy }, "192.0.2.0/30")
			w.start()
			w.create(service("web", "IPv4"))
			w.wantIngress("web", "192.0.2.0")
			w.editPool("a", func(s *v1alpha1.IPPoolSpec) { s.Addresses = []v1alpha1.AddressRange{"192.0.2.4/30"} })
			w.wantIngress("web", tc.want)
			if tc.want == "192.0.2.4" {
				w.wantVIPs("192.0.2.4=web")
				w.wantCondition("web", "True Allocated: has 192.0.2.4")
				return
			}
			w.wantCondition("web", "True NotAsWished", `192.0.2.0 is no longer in IPPool "a" 192.0.2.4/30`, "keeps 192.0.2.0")
			w.wantEvent("Warning NotAsWished", "no longer in IPPool")
			w.wantVIPCondition("192.0.2.0", v1alpha1.VIPCovered, "False NotInPool")
			w.editPool("a", func(s *v1alpha1.IPPoolSpec) { s.Addresses = []v1alpha1.AddressRange{"192.0.2.0/29"} })
			w.wantVIPCondition("192.0.2.0", v1alpha1.VIPCovered, "True InPool")
			w.wantCondition("web", "True Allocated")
		})
	}
}

func TestReassignKeepsTheAddressWhereThereIsNoOther(t *testing.T) {
	w := newWorld(t)
	w.poolWith("a", func(s *v1alpha1.IPPoolSpec) { s.Reclaim = v1alpha1.ReclaimReassign }, "192.0.2.0/30")
	w.start()
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	w.editPool("a", func(s *v1alpha1.IPPoolSpec) { s.Namespaces = []string{"elsewhere"} })
	w.wantCondition("web", "True NotAsWished", "which is for other Services now (namespaces elsewhere)", "keeps 192.0.2.0")
	w.pool("b", 0, "198.51.100.0/30")
	w.wantIngress("web", "198.51.100.0")
}
