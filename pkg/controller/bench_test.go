package controller

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corefake "k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	fairleadfake "github.com/fairlead/fairlead/pkg/generated/clientset/versioned/fake"
	"github.com/fairlead/fairlead/pkg/source"
)

// BenchmarkOneMoreService gives one more Service its address and takes it back, among others that have theirs. The time is that
// of the controller and of the fake API server.
func BenchmarkOneMoreService(b *testing.B) {
	klog.SetLogger(klog.Logger{}) // thousands of lines would bury the figures
	b.Cleanup(klog.ClearLogger)
	for _, others := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			bench := newBench(b)
			addr := netip.MustParseAddr("10.0.0.0")
			for i := range others {
				bench.holds(fmt.Sprint("svc", i), addr)
				addr = addr.Next()
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				bench.cycle(fmt.Sprint("one-more-", i))
			}
		})
	}
}

// bench is a controller that does not run: its caches are filled by hand.
type bench struct {
	testing.TB
	*Controller
	core     *corefake.Clientset
	fairlead *fairleadfake.Clientset
	services cache.Indexer
}

func newBench(tb testing.TB) *bench {
	b := &bench{TB: tb, core: corefake.NewSimpleClientset(), fairlead: fairleadfake.NewSimpleClientset()}
	uids := 0
	b.fairlead.PrependReactor("create", "vips", func(action k8stesting.Action) (bool, runtime.Object, error) {
		uids++
		meta1(action.(k8stesting.CreateActionImpl).Object).SetUID(types.UID(fmt.Sprint("uid-", uids)))
		return false, nil, nil
	})
	c, err := New(Config{Core: b.core, Fairlead: b.fairlead, Recorder: &record.FakeRecorder{}, Registry: prometheus.NewRegistry(),
		Rules: source.Rules{Classless: true}})
	if err != nil {
		tb.Fatal(err)
	}
	b.Controller, b.services = c, c.coreInformers.Core().V1().Services().Informer().GetIndexer()
	b.book.setPools([]*v1alpha1.IPPool{{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v1alpha1.IPPoolSpec{Addresses: []v1alpha1.AddressRange{"10.0.0.0/8"}}}})
	return b
}

func (b *bench) service(name string) *corev1.Service {
	return service(name, "IPv4", func(s *corev1.Service) { s.UID = types.UID(name) })
}

// holds enters a Service that has an address.
func (b *bench) holds(name string, addr netip.Addr) {
	svc := b.service(name)
	request, err := b.config.Rules.Request(svc)
	if err != nil {
		b.Fatal(err)
	}
	vip := &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: source.VIPName(addr), UID: types.UID(addr.String()),
		Labels: map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}}}
	vip.Spec, _ = b.specFor(serviceTenant(request, &wish{asker: keyOf(svc)}), vip, addr)
	svc.Status.LoadBalancer.Ingress = b.ingress(svc, []*v1alpha1.VIP{vip})
	_ = b.services.Add(svc)
	_ = b.vipIndex.Add(vip)
	b.vipChanged(nil, vip)
	b.serviceChanged(nil, svc)
}

func (b *bench) cycle(name string) {
	ctx := context.Background()
	svc := b.service(name)
	key := keyOf(svc)
	if err := b.core.Tracker().Add(svc); err != nil {
		b.Fatal(err)
	}
	_ = b.services.Add(svc)
	b.serviceChanged(nil, svc)
	if err := b.reconcileService(ctx, key); err != nil {
		b.Fatal(err)
	}
	_ = b.core.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("services"), "default", name)
	_ = b.services.Delete(svc)
	b.serviceGone(svc)
	vips := b.vipsOf(key)
	if len(vips) != 1 {
		b.Fatalf("%s has %d VIPs", name, len(vips))
	}
	_ = b.vipIndex.Add(vips[0])
	if err := b.reconcileService(ctx, key); err != nil {
		b.Fatal(err)
	}
	_ = b.vipIndex.Delete(vips[0])
	b.vipGone(vips[0])
	b.core.ClearActions()
	b.fairlead.ClearActions()
	for b.serviceQueue.Len() > 0 {
		item, _ := b.serviceQueue.Get()
		b.serviceQueue.Done(item)
	}
}
