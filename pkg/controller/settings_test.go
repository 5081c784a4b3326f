package controller

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	k8stesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

func TestFrontendsHaveTheirPoolsSettings(t *testing.T) {
	w := newWorld(t)
	pool := w.pool("a", time.Hour, "192.0.2.0/30")
	w.start()
	w.create(service("svc", "IPv4"))
	w.wantIngress("svc", "192.0.2.0")
	pools := w.fairlead.FairleadV1alpha1().IPPools()
	frontend := func() v1alpha1.Frontend {
		vip, err := w.fairlead.FairleadV1alpha1().VIPs().Get(w.ctx, "192.0.2.0", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return vip.Spec.Frontends[0]
	}

	pool, err := pools.Get(w.ctx, pool.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pool.Spec.Scheduler, pool.Spec.DrainSeconds = "rr", new(int32)
	pool.Spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, Port: 8080}
	pool.Spec.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTP, Port: 1936}
	if _, err := pools.Update(w.ctx, pool, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("settings", func() string {
		f := frontend()
		if f.Scheduler != "rr" || f.Backends == nil || f.Backends.Port != 8080 || f.HealthCheck == nil || f.HealthCheck.Port != 1936 ||
			f.DrainSeconds == nil {
			return "the frontend does not have them"
		}
		return ""
	})

	had := frontend()
	bare := v1alpha1.Frontend{Port: had.Port, Protocol: had.Protocol}
	if kept, _ := withSettings(bare, nil, []v1alpha1.Frontend{had}); kept.Scheduler != "rr" || kept.Backends.Port != 8080 || kept.HealthCheck.Port != 1936 ||
		kept.DrainSeconds == nil {
		t.Errorf("without its pool the frontend is left with %+v", kept)
	}
}

func TestAServiceChoosesWhatItsPoolAllows(t *testing.T) {
	of := func(kind v1alpha1.BackendKind) v1alpha1.Frontend {
		return v1alpha1.Frontend{Scheduler: "wlc", Forwarding: v1alpha1.ForwardTunnel, Backends: &v1alpha1.Backends{Kind: kind}}
	}
	plain := &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1alpha1.IPPoolSpec{
		Scheduler: "rr", Forwarding: v1alpha1.ForwardDirect, Backends: &v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Addresses: []string{"192.0.2.9"}},
	}}
	open := plain.DeepCopy()
	open.Spec.ServiceBackends = []v1alpha1.BackendKind{v1alpha1.BackendNodes}
	for name, test := range map[string]struct {
		kind    v1alpha1.BackendKind
		pool    *v1alpha1.IPPool
		want    v1alpha1.BackendKind // "": none
		problem string
	}{
		"pods":                          {v1alpha1.BackendPods, plain, v1alpha1.BackendPods, ""},
		"nodes, of a pool that is open": {v1alpha1.BackendNodes, open, v1alpha1.BackendNodes, ""},
		"the pool's own kind":           {v1alpha1.BackendStatic, open, v1alpha1.BackendStatic, ""},
		"nodes": {v1alpha1.BackendNodes, plain, v1alpha1.BackendStatic,
			`annotation fairlead.dev/backend "Nodes" is not for Services of IPPool a: add Nodes to its spec.serviceBackends`},
		"pods, of a pool for nodes": {v1alpha1.BackendPods, open, v1alpha1.BackendStatic, "add Pods to its spec.serviceBackends"},
		"nodes, without a pool":     {v1alpha1.BackendNodes, nil, "", "make an IPPool of the address with Nodes in spec.serviceBackends"},
	} {
		got, problem := withSettings(of(test.kind), test.pool, nil)
		kind := v1alpha1.BackendKind("")
		if got.Backends != nil {
			kind = got.Backends.Kind
		}
		if kind != test.want || (problem == "") != (test.problem == "") || !strings.Contains(problem, test.problem) {
			t.Errorf("%s: backends of kind %q, problem %q; want %q, %q", name, kind, problem, test.want, test.problem)
		}
		if got.Scheduler != "wlc" || got.Forwarding != v1alpha1.ForwardTunnel {
			t.Errorf("%s: scheduler %q, forwarding %q are not the Service's own", name, got.Scheduler, got.Forwarding)
		}
	}
}

// TestAnAnnotationThatTheAPIServerRefusesIsTold plays the rules of the VIP's schema, which the fake server has not.
func TestAnAnnotationThatTheAPIServerRefusesIsTold(t *testing.T) {
	w := newWorld(t)
	w.pool("a", time.Hour, "192.0.2.0/30")
	w.fairlead.PrependReactor("*", "vips", func(action k8stesting.Action) (bool, runtime.Object, error) {
		write, isWrite := action.(k8stesting.UpdateAction)
		if !isWrite {
			return false, nil, nil
		}
		vip, isVIP := write.GetObject().(*v1alpha1.VIP)
		if !isVIP || len(vip.Spec.Frontends) == 0 || vip.Spec.Frontends[0].HealthCheck == nil {
			return false, nil, nil
		}
		path := field.NewPath("spec", "frontends").Index(0).Child("healthCheck", "type")
		return true, nil, apierrors.NewInvalid(v1alpha1.SchemeGroupVersion.WithKind("VIP").GroupKind(), vip.Name,
			field.ErrorList{field.NotSupported(path, vip.Spec.Frontends[0].HealthCheck.Type, []string{"TCP"})})
	})
	w.start(mapped)
	check := func(svc *corev1.Service) {
		svc.Annotations = map[string]string{source.AnnotationHealthCheck: "{type: GUESS}"}
	}
	w.create(service("svc", "IPv4", check))
	w.wantCondition("svc", "False", "its VIP cannot be written as its annotations want it", `healthCheck.type: Unsupported value: "GUESS"`)
	w.edit("svc", func(svc *corev1.Service) { svc.Annotations = nil })
	w.wantIngress("svc", "192.0.2.0")
	w.edit("svc", check)
	w.wantCondition("svc", "False", "correct them")
	w.wantIngress("svc", "192.0.2.0")
	w.create(service("mapped", "IPv4", ofType(corev1.ServiceTypeClusterIP, 80), check))
	w.configMap("203.0.113.5", "default/mapped")
	w.wantEvent("Warning BadEntry", `key "203.0.113.5"`, `Unsupported value: "GUESS"`)
}
