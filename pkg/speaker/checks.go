package speaker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/health"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/plan"
)

// Checker finds out whether backends answer: see package health.
type Checker interface {
	Change(map[model.Target]bool)
	Down() map[model.Target]bool
	Verdict(model.Target) health.Verdict
	Run(context.Context)
}

// checks has the backends of all that is programmed checked, on the holder and on its standbys, and tells what came of it.
// Only the reconciling goroutine uses it.
type checks struct {
	checker  Checker
	recorder Recorder
	metrics  *Metrics

	followed    []*plan.Part         // of the last plan: what is checked
	targets     map[model.Target]int // with how many backends they are of
	down, short int                  // backends and frontends
	told        []*plan.Part         // of the VIPs with checks that were announced then
}

func newChecks(config Config, checker Checker) *checks {
	return &checks{checker: checker, recorder: config.Recorder, metrics: config.Metrics, targets: map[model.Target]int{}}
}

// follow has checked what the plan wants to know of.
func (c *checks) follow(result plan.Result) {
	changed := map[model.Target]bool{}
	for before, now := range plan.Changes(c.followed, result.Parts) {
		c.count(before, -1, changed)
		c.count(now, 1, changed)
	}
	c.followed = result.Parts
	for target := range changed {
		if changed[target] = c.targets[target] > 0; !changed[target] {
			delete(c.targets, target)
		}
	}
	if len(changed) > 0 {
		c.checker.Change(changed)
	}
	c.metrics.down.Set(float64(c.down))
	c.metrics.short.Set(float64(c.short))
}

// count adds or takes what one VIP has checked, and notes the targets.
func (c *checks) count(part *plan.Part, by int, changed map[model.Target]bool) {
	if part == nil {
		return
	}
	for _, item := range part.Checked {
		c.targets[item.Target] += by
		changed[item.Target] = true
		if item.Down {
			c.down += by
		}
	}
	c.short += by * len(part.Short)
}

// tell makes an event of each backend that went down or came back, and of each frontend that lost its quorum or has it again,
// of the VIPs that this node announces. A new holder tells what it finds: there may have been none before, or it fell silent with
// the backend.
func (c *checks) tell(vips []*v1alpha1.VIP, bound []model.Binding, result plan.Result) {
	var announced []*plan.Part
	for _, part := range result.Parts {
		if len(part.Checked)+len(part.Short) > 0 && announces(bound, part.State.VIPs[0]) {
			announced = append(announced, part)
		}
	}
	for before, now := range plan.Changes(c.told, announced) {
		if now == nil {
			continue
		}
		if before == nil {
			before = &plan.Part{}
		}
		if i, found := slices.BinarySearchFunc(vips, now.VIP, byName); found {
			c.tellDown(vips[i], before.Checked, now.Checked)
			c.tellShort(vips[i], before.Short, now.Short)
		}
	}
	c.told = announced
}

func byName(vip *v1alpha1.VIP, name string) int { return cmp.Compare(vip.Name, name) }

// announces reports whether an address is among bindings, which are in order.
func announces(bound []model.Binding, addr netip.Addr) bool {
	_, found := slices.BinarySearchFunc(bound, addr, func(b model.Binding, addr netip.Addr) int { return b.Addr.Compare(addr) })
	return found
}

// tellDown tells of the backends of one VIP.
func (c *checks) tellDown(vip *v1alpha1.VIP, before, now []plan.Checked) {
	down := make(map[plan.Checked]bool, len(before))
	for _, item := range before {
		down[plan.Checked{Backend: item.Backend, Target: item.Target}] = item.Down
	}
	for _, item := range now {
		switch {
		case item.Down == down[plan.Checked{Backend: item.Backend, Target: item.Target}]:
		case item.Down:
			c.recorder.Event(vip, corev1.EventTypeWarning, v1alpha1.VIPReasonBackendDown,
				fmt.Sprintf("%s: %s", where(item), cmp.Or(c.checker.Verdict(item.Target).Reason, "its health check failed")))
		default:
			c.recorder.Event(vip, corev1.EventTypeNormal, v1alpha1.VIPReasonBackendUp,
				fmt.Sprintf("%s answers its health check again", where(item)))
		}
	}
}

// tellShort tells of the frontends of one VIP that have no quorum, or have it again.
func (c *checks) tellShort(vip *v1alpha1.VIP, before, now []plan.Short) {
	had, has := insteads(before), insteads(now)
	for _, item := range now {
		if had[item.Frontend] != item.Instead {
			c.recorder.Event(vip, corev1.EventTypeWarning, v1alpha1.VIPReasonQuorumLost,
				fmt.Sprintf("port %d/%s: %d of %d backends are up, and %d must be: connections go %s",
					item.Frontend.Port, item.Frontend.Proto, item.Count.Ready, item.Count.All, item.Quorum, item.Instead))
		}
	}
	for _, frontend := range vip.Spec.Frontends {
		if key := frontendOf(vip, frontend); had[key] != "" && has[key] == "" {
			c.recorder.Event(vip, corev1.EventTypeNormal, v1alpha1.VIPReasonQuorumBack,
				fmt.Sprintf("port %d/%s: enough backends are up again", frontend.Port, frontend.Protocol))
		}
	}
}

func insteads(all []plan.Short) map[model.Frontend]plan.Instead {
	out := make(map[model.Frontend]plan.Instead, len(all))
	for _, item := range all {
		out[item.Frontend] = item.Instead
	}
	return out
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
