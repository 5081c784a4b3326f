package controller

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestStandbyTakesOverWhenTheLeaderStops(t *testing.T) {
	w := newWorld(t)
	w.pool("a", 0, "192.0.2.0/30")
	elect := func(identity string) func(*Config) {
		return func(c *Config) {
			c.Election = &Election{Client: w.core, Namespace: "fairlead-system", Name: "fairlead-controller", Identity: identity}
		}
	}
	holder := func() string {
		lease, err := w.core.CoordinationV1().Leases("fairlead-system").Get(w.ctx, "fairlead-controller", metav1.GetOptions{})
		if err != nil || lease.Spec.HolderIdentity == nil {
			return ""
		}
		return *lease.Spec.HolderIdentity
	}
	first, stop := w.start(elect("one"))
	w.eventually("a leader", func() string {
		if holder() != "one" {
			return "held by " + holder()
		}
		return ""
	})
	second, _ := w.start(elect("two"))
	w.create(service("web", "IPv4"))
	w.wantIngress("web", "192.0.2.0")
	if first.Ready() != nil || second.Ready() != nil || first.Live() != nil || second.Live() != nil {
		t.Error("leader or standby is not ready and alive")
	}
	start := time.Now()
	stop()
	w.create(service("next", "IPv4"))
	w.wantIngress("next", "192.0.2.1")
	if took := time.Since(start); took > leaseDuration-retryPeriod {
		t.Errorf("took over after %s: the Lease was not given back", took)
	}
	w.eventually("another leader", func() string {
		if holder() != "two" {
			return fmt.Sprint("held by ", holder())
		}
		return ""
	})
}
