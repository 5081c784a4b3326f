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
	known    map[checked]bool       // whether a backend was down when it was last looked at
	short    map[short]plan.Instead // of frontends that lacked their quorum then
}

// checked is a backend of a VIP with what is asked of it.
type checked struct {
	vip     string
	backend netip.AddrPort
	target  model.Target
}

// short is a frontend of a VIP.
type short struct {
	vip      string
	frontend model.Frontend
}

func newChecks(config Config, checker Checker) *checks {
	return &checks{
		checker: checker, recorder: config.Recorder, metrics: config.Metrics,
		known: map[checked]bool{}, short: map[short]plan.Instead{},
	}
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
	without := 0
	for _, list := range result.Short {
		without += len(list)
	}
	c.metrics.short.Set(float64(without))
}

// tell makes an event of each backend that went down or came back, and of each frontend that lost its quorum or has it again,
// of the VIPs that this node announces. A new holder says nothing of what it finds: the old one did.
func (c *checks) tell(vips []*v1alpha1.VIP, bound []model.Binding, result plan.Result) {
	announced := make(map[string]bool, len(bound))
	for _, binding := range bound {
		announced[binding.Addr.String()] = true
	}
	known := make(map[checked]bool, len(c.known))
	lacking := map[short]plan.Instead{}
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
		c.tellShort(vip, announced[vip.Spec.Address], result, lacking)
	}
	c.known, c.short = known, lacking
}

// tellShort tells of the frontends of one VIP, and notes in lacking those without a quorum.
func (c *checks) tellShort(vip *v1alpha1.VIP, announced bool, result plan.Result, lacking map[short]plan.Instead) {
	for _, item := range result.Short[vip.Name] {
		key := short{vip: vip.Name, frontend: item.Frontend}
		lacking[key] = item.Instead
		if announced && c.short[key] != item.Instead {
			c.recorder.Event(vip, corev1.EventTypeWarning, v1alpha1.VIPReasonQuorumLost,
				fmt.Sprintf("port %d/%s: %d of %d backends are up, and %d must be: connections go %s",
					item.Frontend.Port, item.Frontend.Proto, item.Count.Ready, item.Count.All, item.Quorum, item.Instead))
		}
	}
	if !announced || len(c.short) == 0 {
		return
	}
	for _, frontend := range vip.Spec.Frontends {
		key := short{vip: vip.Name, frontend: frontendOf(vip, frontend)}
		if _, lacks := lacking[key]; !lacks && c.short[key] != "" {
			c.recorder.Event(vip, corev1.EventTypeNormal, v1alpha1.VIPReasonQuorumBack,
				fmt.Sprintf("port %d/%s: enough backends are up again", frontend.Port, frontend.Protocol))
		}
	}
}

// frontendOf is the model's frontend of a VIP that was planned.
func frontendOf(vip *v1alpha1.VIP, frontend v1alpha1.Frontend) model.Frontend {
	addr, _ := netip.ParseAddr(vip.Spec.Address) // the plan has left out what is none
	return model.Frontend{Addr: addr, Port: uint16(frontend.Port), Proto: model.Protocol(frontend.Protocol)}
}

// where names a backend, and where it is checked if that is another port.
func where(item plan.Checked) string {
	if item.Backend == item.Target.Addr {
		return item.Backend.String()
	}
	return fmt.Sprintf("%s (checked at port %d)", item.Backend, item.Target.Addr.Port())
}
