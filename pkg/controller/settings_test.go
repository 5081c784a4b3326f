package controller

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
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
	pool.Spec.Scheduler = "rr"
	pool.Spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, Port: 8080}
	pool.Spec.HealthCheck = &v1alpha1.HealthCheck{Type: v1alpha1.CheckHTTP, Port: 1936}
	if _, err := pools.Update(w.ctx, pool, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("settings", func() string {
		f := frontend()
		if f.Scheduler != "rr" || f.Backends == nil || f.Backends.Port != 8080 || f.HealthCheck == nil || f.HealthCheck.Port != 1936 {
			return "the frontend does not have them"
		}
		return ""
	})

	had := frontend()
	bare := v1alpha1.Frontend{Port: had.Port, Protocol: had.Protocol}
	if kept := withSettings(bare, nil, []v1alpha1.Frontend{had}); kept.Scheduler != "rr" || kept.Backends.Port != 8080 || kept.HealthCheck.Port != 1936 {
		t.Errorf("without its pool the frontend is left with %+v", kept)
	}
}
