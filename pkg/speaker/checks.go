package speaker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/health"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/plan"
)

// Checker finds out whether backends answer: see package health.
type Checker interface {
	Set(map[model.Target]bool)
	Verdict(model.Target) health.Verdict
	Run(context.Context)
}

// checks has the backends of all that is programmed checked, on the holder and on its standbys, and tells what came of it.
// Only the reconciling goroutine uses it.
type checks struct {
	checker  Checker
	recorder Recorder
	metrics  *Metrics
	known    map[checked]bool // whether a backend was down when it was last looked at
}

// checked is a backend of a VIP with what is asked of it.
type checked struct {
	vip     string
	backend netip.AddrPort
	target  model.Target
}

func newChecks(config Config, checker Checker) *checks {
	return &checks{checker: checker, recorder: config.Recorder, metrics: config.Metrics, known: map[checked]bool{}}
}

// down is what the plan asks.
func (c *checks) down(target model.Target) bool { return c.checker.Verdict(target).Down }

// follow has checked what the plan wants to know of.
func (c *checks) follow(result plan.Result) {
	targets := map[model.Target]bool{}
	down := 0
	for _, list := range result.Checked {
		for _, item := range list {
			targets[item.Target] = true
			if item.Down {
				down++
			}
		}
	}
	c.checker.Set(targets)
	c.metrics.down.Set(float64(down))
}

// tell makes an event of each backend that went down or came back, of the VIPs that this node announces. A new holder says
// nothing of what it finds: the old one did.
func (c *checks) tell(vips []*v1alpha1.VIP, bound []model.Binding, result plan.Result) {
	announced := make(map[string]bool, len(bound))
	for _, binding := range bound {
		announced[binding.Addr.String()] = true
	}
	known := make(map[checked]bool, len(c.known))
	for _, vip := range vips {
		for _, item := range result.Checked[vip.Name] {
			key := checked{vip: vip.Name, backend: item.Backend, target: item.Target}
			known[key] = item.Down
			if item.Down == c.known[key] || !announced[vip.Spec.Address] {
				continue
			}
			if item.Down {
				c.recorder.Event(vip, corev1.EventTypeWarning, v1alpha1.VIPReasonBackendDown,
					fmt.Sprintf("%s: %s", where(item), cmp.Or(c.checker.Verdict(item.Target).Reason, "its health check failed")))
			} else {
				c.recorder.Event(vip, corev1.EventTypeNormal, v1alpha1.VIPReasonBackendUp,
					fmt.Sprintf("%s answers its health check again", where(item)))
			}
		}
	}
	c.known = known
}

// where names a backend, and where it is checked if that is another port.
func where(item plan.Checked) string {
	if item.Backend == item.Target.Addr {
		return item.Backend.String()
	}
	return fmt.Sprintf("%s (checked at port %d)", item.Backend, item.Target.Addr.Port())
}
