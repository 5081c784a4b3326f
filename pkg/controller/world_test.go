package controller

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// world is a server with controllers on it.
type world struct {
	testing.TB
	*server
	events *record.FakeRecorder
	ctx    context.Context
}

func newWorld(t testing.TB) *world {
	logger, ctx := ktesting.NewTestContext(t)
	_ = logger
	return &world{TB: t, server: newServer(), events: record.NewFakeRecorder(100_000), ctx: klog.NewContext(ctx, klog.Logger{})}
}

// start runs a controller until the test, or the returned function, ends it.
func (w *world) start(change ...func(*Config)) (*Controller, func()) {
	w.Helper()
	config := Config{
		Core: w.core, Fairlead: w.fairlead, Recorder: w.events, Registry: prometheus.NewRegistry(),
		Rules: source.Rules{Class: source.DefaultClass, Classless: true},
	}
	for _, f := range change {
		f(&config)
	}
	c, err := New(config)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				w.Errorf("Run: %v", err)
			}
		})
	}
	w.Cleanup(stop)
	w.eventually("caches filled", func() string { return errText(c.Ready()) })
	return c, stop
}

func errText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

// eventually waits until wrong says nothing.
func (w *world) eventually(what string, wrong func() string) {
	w.Helper()
	text := wrong()
	for deadline := time.Now().Add(10 * time.Second); text != ""; text = wrong() {
		if time.Now().After(deadline) {
			w.Fatalf("%s: still %s", what, text)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (w *world) pool(name string, age time.Duration, addresses ...string) *v1alpha1.IPPool {
	w.Helper()
	object := &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Now().Add(-age).Truncate(time.Second))}}
	for _, a := range addresses {
		object.Spec.Addresses = append(object.Spec.Addresses, v1alpha1.AddressRange(a))
	}
	made, err := w.fairlead.FairleadV1alpha1().IPPools().Create(w.ctx, object, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return made
}

// poolWith makes a pool with more than addresses.
func (w *world) poolWith(name string, change func(*v1alpha1.IPPoolSpec), addresses ...string) {
	w.Helper()
	object := &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, a := range addresses {
		object.Spec.Addresses = append(object.Spec.Addresses, v1alpha1.AddressRange(a))
	}
	change(&object.Spec)
	if _, err := w.fairlead.FairleadV1alpha1().IPPools().Create(w.ctx, object, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

// editPool changes a pool, over conflicts.
func (w *world) editPool(name string, change func(*v1alpha1.IPPoolSpec)) {
	w.Helper()
	for {
		object, err := w.fairlead.FairleadV1alpha1().IPPools().Get(w.ctx, name, metav1.GetOptions{})
		if err != nil {
			w.Fatal(err)
		}
		change(&object.Spec)
		object.Generation++ // as the API server does
		_, err = w.fairlead.FairleadV1alpha1().IPPools().Update(w.ctx, object, metav1.UpdateOptions{})
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			w.Fatal(err)
		}
	}
}

func (w *world) deletePool(name string) {
	w.Helper()
	if err := w.fairlead.FairleadV1alpha1().IPPools().Delete(w.ctx, name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
}

// namespace makes a namespace with labels, as "key=value".
func (w *world) namespace(name string, labels map[string]string) {
	w.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := w.core.CoreV1().Namespaces().Create(w.ctx, ns, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
}

// condition is a Service's condition Allocated, as "status reason: message".
func (w *world) condition(name string) string {
	c := meta.FindStatusCondition(w.get(name).Status.Conditions, ServiceAllocated)
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}

func (w *world) wantCondition(name string, parts ...string) {
	w.Helper()
	w.eventually("condition of "+name, func() string {
		got := w.condition(name)
		for _, part := range parts {
			if !strings.Contains(got, part) {
				return fmt.Sprintf("%q, want %q", got, part)
			}
		}
		return ""
	})
}

func service(name string, families string, change ...func(*corev1.Service)) *corev1.Service {
	policy := corev1.IPFamilyPolicySingleStack
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, IPFamilyPolicy: &policy,
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
	for _, f := range strings.Fields(families) {
		svc.Spec.IPFamilies = append(svc.Spec.IPFamilies, corev1.IPFamily(f))
	}
	if len(svc.Spec.IPFamilies) > 1 {
		*svc.Spec.IPFamilyPolicy = corev1.IPFamilyPolicyPreferDualStack
	}
	for _, f := range change {
		f(svc)
	}
	return svc
}

func annotated(key, value string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		if svc.Annotations == nil {
			svc.Annotations = map[string]string{}
		}
		svc.Annotations[key] = value
	}
}

func labelled(key, value string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Labels = map[string]string{key: value} }
}

// port is the one port of a Service.
func port(number int32) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.Ports[0].Port = number }
}

func required(svc *corev1.Service) {
	*svc.Spec.IPFamilyPolicy = corev1.IPFamilyPolicyRequireDualStack
}

func (w *world) create(svc *corev1.Service) *corev1.Service {
	w.Helper()
	made, err := w.core.CoreV1().Services(svc.Namespace).Create(w.ctx, svc, metav1.CreateOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return made
}

// edit changes a Service, as a user or a tamperer would, over conflicts.
func (w *world) edit(name string, change func(*corev1.Service)) {
	w.Helper()
	for {
		svc := w.get(name)
		change(svc)
		_, err := w.core.CoreV1().Services("default").Update(w.ctx, svc, metav1.UpdateOptions{})
		if err == nil {
			return
		}
		if !apierrors.IsConflict(err) {
			w.Fatal(err)
		}
	}
}

func (w *world) get(name string) *corev1.Service {
	w.Helper()
	svc, err := w.core.CoreV1().Services("default").Get(w.ctx, name, metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return svc
}

func (w *world) deleteService(name string) {
	w.Helper()
	if err := w.core.CoreV1().Services("default").Delete(w.ctx, name, metav1.DeleteOptions{}); err != nil {
		w.Fatal(err)
	}
}

// ingress is what kubectl shows as EXTERNAL-IP.
func (w *world) ingress(name string) string {
	w.Helper()
	var ips []string
	for _, entry := range w.get(name).Status.LoadBalancer.Ingress {
		ips = append(ips, entry.IP)
	}
	return strings.Join(ips, ",")
}

func (w *world) vips() []v1alpha1.VIP {
	w.Helper()
	list, err := w.fairlead.FairleadV1alpha1().VIPs().List(w.ctx, metav1.ListOptions{})
	if err != nil {
		w.Fatal(err)
	}
	return list.Items
}

// allocated are all VIPs with their Services, as "address=name …".
func (w *world) allocated() string {
	w.Helper()
	var all []string
	for _, vip := range w.vips() {
		names := make([]string, len(vip.Spec.Frontends))
		for i, f := range vip.Spec.Frontends {
			names[i] = f.Service.Name
		}
		all = append(all, vip.Spec.Address+"="+strings.Join(names, "+"))
	}
	return strings.Join(all, " ")
}

func (w *world) wantIngress(name, want string) {
	w.Helper()
	w.eventually("EXTERNAL-IP of "+name, func() string {
		if got := w.ingress(name); got != want {
			return fmt.Sprintf("%q, want %q", got, want)
		}
		return ""
	})
}

func (w *world) wantVIPs(want string) {
	w.Helper()
	w.eventually("VIPs", func() string {
		if got := w.allocated(); got != want {
			return fmt.Sprintf("%q, want %q", got, want)
		}
		return ""
	})
}

// wantEvent waits for an event with all of the parts and skips others.
func (w *world) wantEvent(parts ...string) {
	w.Helper()
	var seen []string
	for deadline := time.After(10 * time.Second); ; {
		select {
		case event := <-w.events.Events:
			ok := true
			for _, part := range parts {
				ok = ok && strings.Contains(event, part)
			}
			if ok {
				return
			}
			seen = append(seen, event)
		case <-deadline:
			w.Fatalf("no event with %q; there were:\n%s", parts, strings.Join(seen, "\n"))
		}
	}
}

// quiet waits until nothing is written for a while and returns what was written.
func (w *world) quiet() []string {
	w.Helper()
	var all []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		time.Sleep(2 * statusDelay)
		writes := w.takeWrites()
		if len(writes) == 0 {
			return all
		}
		all = append(all, writes...)
	}
	w.Fatalf("writes do not end: %d, the last %s", len(all), all[max(0, len(all)-10):])
	return nil
}
