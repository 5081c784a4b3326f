// Package kube is how both binaries meet the API server: configuration, clients, an event recorder, Prometheus metrics of work
// queues, the objects that a speaker watches, the status of VIPs that it writes; and the HTTP server for operators (/metrics,
// /healthz, /readyz).
//
// It owns the settings of connections: rate, content type, user agent. It decides nothing about VIPs and keeps no state at
// package level. It does not promise that an event arrives: events are best effort, so that nothing may depend on one.
package kube
