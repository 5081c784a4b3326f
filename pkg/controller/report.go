package controller

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// ServiceAllocated is the type of the condition of a Service: True, it has the addresses that it is to have, or as many of
// them as it did not insist on.
const ServiceAllocated = v1alpha1.GroupName + "/Allocated"

// Reasons of events and of the conditions of Services and claims.
const (
	// ReasonAllocated (Normal) names the addresses and their pools.
	ReasonAllocated = "Allocated"
	// ReasonFailed (Warning) says what was asked for, why it cannot be had, and what to do.
	ReasonFailed = "AllocationFailed"
	// ReasonNotAsWished (Warning) says the same of an object that has its address, and what is not as it should be there: a
	// port that another Service has, or no pool behind it any more.
	ReasonNotAsWished = "NotAsWished"
	// ReasonReleased (Normal) names the addresses that a Service no longer has.
	ReasonReleased = "Released"
)

// maxMessage is the length that the API server allows for the message of an event, in bytes.
const maxMessage = 1024

func listAddresses(vips []*v1alpha1.VIP) string {
	addrs := make([]string, len(vips))
	for i, vip := range vips {
		addrs[i] = vip.Spec.Address
	}
	return strings.Join(addrs, ", ")
}

// refuse reports a Service whose own values are wrong. Its addresses stay as they are.
func (c *Controller) refuse(ctx context.Context, svc *corev1.Service, err error) error {
	c.metrics.allocations.WithLabelValues(resultInvalid, "").Inc()
	return c.publish(ctx, svc, svc.Status.LoadBalancer.Ingress,
		c.serviceCondition(metav1.ConditionFalse, ReasonFailed, strings.ReplaceAll(err.Error(), "\n", "; ")), nil)
}

func clip(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage-len("…")], "") + "…"
}

func (c *Controller) serviceCondition(status metav1.ConditionStatus, reason, message string) *metav1.Condition {
	return &metav1.Condition{Type: ServiceAllocated, Status: status, Reason: reason, Message: clip(message),
		LastTransitionTime: metav1.NewTime(c.config.Now())}
}

// judgeService is the condition of a Service. That the second family of PreferDualStack cannot be had is part of the good news:
// the Service asked for what there is. Problems are what is wrong with addresses that it has.
func (c *Controller) judgeService(request source.Request, vips []*v1alpha1.VIP, failures []failure, problems []string) *metav1.Condition {
	asked := request.RequireAll || request.Pool != "" || len(request.Addresses) > 0 || len(vips) == 0
	text := texts(failures)
	switch has := withPools(vips); {
	case request.RequireAll && len(vips) < len(request.Families):
		return c.serviceCondition(metav1.ConditionFalse, ReasonFailed, "RequireDualStack asks for all families or none: "+text)
	case len(vips) == 0:
		return c.serviceCondition(metav1.ConditionFalse, ReasonFailed, text)
	case text != "" && asked:
		problems = append([]string{text}, problems...)
		fallthrough
	case len(problems) > 0:
		return c.serviceCondition(metav1.ConditionTrue, ReasonNotAsWished,
			fmt.Sprintf("%s; the Service keeps %s", strings.Join(problems, "; "), listAddresses(vips)))
	case text != "":
		return c.serviceCondition(metav1.ConditionTrue, ReasonAllocated, has+"; "+text)
	default:
		return c.serviceCondition(metav1.ConditionTrue, ReasonAllocated, has)
	}
}

func withPools(vips []*v1alpha1.VIP) string {
	parts := make([]string, len(vips))
	for i, vip := range vips {
		parts[i] = fmt.Sprintf("%s from IPPool %q", vip.Spec.Address, vip.Spec.Pool)
	}
	return "has " + strings.Join(parts, " and ")
}

// tellService makes events of what a write of the status changed.
func (c *Controller) tellService(svc *corev1.Service, condition *metav1.Condition, told, moved bool, released []*v1alpha1.VIP) {
	if condition != nil && !told {
		kind := corev1.EventTypeNormal
		if condition.Reason != ReasonAllocated {
			kind = corev1.EventTypeWarning
		}
		c.config.Recorder.Event(svc, kind, condition.Reason, condition.Message)
	}
	switch {
	case !moved || len(released) == 0:
	case condition == nil:
		c.config.Recorder.Eventf(svc, corev1.EventTypeNormal, ReasonReleased,
			"released %s: the Service is no longer one of type LoadBalancer that Fairlead serves", listAddresses(released))
	default:
		c.config.Recorder.Event(svc, corev1.EventTypeNormal, ReasonReleased, "released "+listAddresses(released))
	}
}
