package controller

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// Reasons of events about Services.
const (
	// EventAllocated (Normal) names the addresses that a Service now has, and their pools.
	EventAllocated = "Allocated"
	// EventAllocationFailed (Warning) says what a Service asked for, why it cannot be had, and what to do.
	EventAllocationFailed = "AllocationFailed"
	// EventReleased (Normal) names the addresses that a Service no longer has.
	EventReleased = "Released"
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

// refuse reports a Service whose own values are wrong.
func (c *Controller) refuse(svc *corev1.Service, err error) {
	c.metrics.allocations.WithLabelValues(resultInvalid, "").Inc()
	c.warn(svc, strings.ReplaceAll(err.Error(), "\n", "; "))
}

// warn tells of a failure once.
func (c *Controller) warn(svc *corev1.Service, text string) {
	if c.told.failed(svc.UID, text) && text != "" {
		c.config.Recorder.Event(svc, corev1.EventTypeWarning, EventAllocationFailed, clip(text))
	}
}

func clip(text string) string {
	if len(text) <= maxMessage {
		return text
	}
	return strings.ToValidUTF8(text[:maxMessage-len("…")], "") + "…"
}

// report tells the user what changed. That the second family of PreferDualStack cannot be had is part of the good news: the
// Service asked for what there is.
func (c *Controller) report(svc *corev1.Service, request source.Request, vips, surplus []*v1alpha1.VIP, failures []failure, published bool) {
	asked := request.RequireAll || request.Pool != "" || len(request.Addresses) > 0 || len(vips) == 0
	var reasons []string
	for _, f := range failures {
		reasons = append(reasons, f.text)
	}
	text := strings.Join(reasons, "; ")
	if changed := c.told.has(svc.UID, listAddresses(vips)); changed && published && len(vips) > 0 {
		note := ""
		if !asked && text != "" {
			note = "; " + text
		}
		c.config.Recorder.Event(svc, corev1.EventTypeNormal, EventAllocated, clip(c.withPools(vips)+note))
	}
	if published && len(surplus) > 0 {
		c.config.Recorder.Event(svc, corev1.EventTypeNormal, EventReleased, "released "+listAddresses(surplus))
	}
	switch {
	case text == "" || !asked:
		c.warn(svc, "")
	case request.RequireAll && len(vips) < len(request.Families):
		c.warn(svc, "RequireDualStack asks for all families or none: "+text)
	case len(vips) > 0:
		c.warn(svc, fmt.Sprintf("%s; the Service keeps %s", text, listAddresses(vips)))
	default:
		c.warn(svc, text)
	}
}

func (c *Controller) withPools(vips []*v1alpha1.VIP) string {
	parts := make([]string, len(vips))
	for i, vip := range vips {
		parts[i] = fmt.Sprintf("%s from IPPool %q", vip.Spec.Address, vip.Spec.Pool)
	}
	return "has " + strings.Join(parts, " and ")
}
