package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	corefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	fairleadfake "github.com/fairlead/fairlead/pkg/generated/clientset/versioned/fake"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/nft"
)

const (
	benchBackends = 10
	benchChanges  = 40
)

// large is a cluster with n VIPs, each of a Service with ten endpoints, of which node n1's speaker holds every one: the worst
// that a node can have to do. Its kernel and its API server are fakes, all else is real.
type large struct {
	*testing.B
	clients *kube.Clients
	kernel  *fakes
	vips    []netip.Addr
	fewer   map[int]bool // Services of which one endpoint is not ready
}

// silent is an Announcer that keeps its schedule and sends nothing.
type silent struct{ *announce.Announcer }

func (silent) Run(ctx context.Context) { <-ctx.Done() }

func (silent) Probe(context.Context, []model.Binding) (map[netip.Addr]announce.Sighting, error) {
	return nil, nil
}

// patient is the protocol for a machine that may be too busy to renew in time.
func patient() election.Timing {
	timing := election.DefaultTiming()
	timing.TSelf, timing.TTake, timing.RenewEvery = time.Minute, 80*time.Second, 10*time.Second
	return timing
}

// forgetful takes events and keeps none.
type forgetful struct{}

func (forgetful) Event(apiruntime.Object, string, string, string) {}

func newLarge(b *testing.B, n int) *large {
	l := &large{B: b, kernel: newFakes(nft.NewFake()), fewer: map[int]bool{}}
	var core, ours []apiruntime.Object
	for i := range 10 {
		core = append(core, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", i+1)}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("10.87.0.%d", i+1)}},
		}})
	}
	for i := range n {
		addr := netip.AddrFrom4([4]byte{10, 87, byte(100 + i>>8), byte(i)})
		l.vips = append(l.vips, addr)
		core = append(core, l.endpoints(i, true))
		ours = append(ours, &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{
			Name: addr.String(), UID: types.UID(addr.String()), Generation: 1,
		}, Spec: v1alpha1.VIPSpec{
			Address: addr.String(), Pool: "lab", Frontends: []v1alpha1.Frontend{{
				Port: 80, Protocol: corev1.ProtocolTCP, PortName: "http",
				Service: v1alpha1.ServiceReference{Namespace: "default", Name: fmt.Sprintf("web-%d", i)},
			}},
		}})
	}
	fairlead := fairleadfake.NewSimpleClientset(ours...)
	passOn(&fairlead.Fake, fairlead.Tracker(), "vips", new(sync.Mutex))
	l.clients = &kube.Clients{Core: corefake.NewSimpleClientset(core...), Fairlead: fairlead}
	return l
}

// open is a watch that its reader does not close: a write may be under way when the speaker ends.
type open struct{ *watch.FakeWatcher }

func (open) Stop() {}

// passOn gives the fake of one kind of objects what a burst of writes needs: resourceVersions, and a watch that holds more than
// a hundred events.
func passOn(fake *clienttesting.Fake, tracker clienttesting.ObjectTracker, resource string, mu *sync.Mutex) {
	events := watch.NewFakeWithChanSize(1<<17, false)
	fake.PrependWatchReactor(resource, clienttesting.DefaultWatchReactor(open{events}, nil))
	store := clienttesting.ObjectReaction(tracker)
	version := 0
	fake.PrependReactor("*", resource, func(action clienttesting.Action) (bool, apiruntime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if write, ok := action.(interface{ GetObject() apiruntime.Object }); ok {
			version++
			write.GetObject().(metav1.Object).SetResourceVersion(strconv.Itoa(version))
		}
		_, object, err := store(action)
		if err != nil {
			return true, object, err
		}
		switch action.GetVerb() {
		case "create":
			events.Add(object.DeepCopyObject())
		case "update", "patch":
			events.Modify(object.DeepCopyObject())
		}
		return true, object, nil
	})
}

// endpoints of Service i; the first one of ten is ready or not.
func (l *large) endpoints(i int, first bool) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d-x", i), Namespace: "default", Labels: map[string]string{
			discoveryv1.LabelServiceName: fmt.Sprintf("web-%d", i),
		}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for j := range benchBackends {
		node, ready := fmt.Sprintf("n%d", j+1), j > 0 || first
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 128+j, i>>8, i&255)}, NodeName: &node,
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	return slice
}

// run starts the speaker and waits until it holds everything and the VIPs' statuses say so.
func (l *large) run() *Speaker {
	kernel := Kernel{
		Sysctls: l.kernel.sysctls, Table: l.kernel.table, Servers: l.kernel.servers, Addresses: l.kernel.addresses,
		Announcer: silent{announce.New(announce.Config{Allowed: func(netip.Addr) bool { return false }})},
	}
	registry := prometheus.NewRegistry()
	leases := corefake.NewSimpleClientset()
	passOn(&leases.Fake, leases.Tracker(), "leases", new(sync.Mutex))
	speaker, err := New(Config{
		Node: "n1", Namespace: "fairlead-system", Clients: l.clients, LeaseClients: &kube.Clients{Core: leases}, Recorder: forgetful{}, Kernel: kernel,
		WatchInterfaces: func(ctx context.Context, _ func()) { <-ctx.Done() }, Timing: patient(),
		Metrics: NewMetrics(registry), ElectionMetrics: election.NewMetrics(registry),
	})
	if err != nil {
		l.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- speaker.Run(ctx) }()
	l.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			l.Error(err)
		}
	})
	patience := time.Minute + 4*time.Duration(len(l.vips))*time.Second/statusRate
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		bound, err := l.kernel.addresses.Bound()
		if err != nil || time.Now().After(deadline) {
			l.Fatal(err, len(bound), "of", len(l.vips), "VIPs are bound")
		}
		if len(bound) == len(l.vips) && l.told(speaker) {
			return speaker
		}
	}
}

// told reports whether the speaker's watch has brought it all that it wrote into statuses.
func (l *large) told(speaker *Speaker) bool {
	vips := speaker.watcher.VIPs()
	return !slices.ContainsFunc(vips, func(vip *v1alpha1.VIP) bool { return vip.Status.Node == "" })
}

// change makes one endpoint of a Service not ready, or ready again, and returns when IPVS has it so.
func (l *large) change(i int) time.Duration {
	want := benchBackends
	if l.fewer[i] = !l.fewer[i]; l.fewer[i] {
		want--
	}
	slice := l.endpoints(i, !l.fewer[i])
	started := time.Now()
	_, err := l.clients.Core.DiscoveryV1().EndpointSlices(slice.Namespace).Update(context.Background(), slice, metav1.UpdateOptions{})
	if err != nil {
		l.Fatal(err)
	}
	for {
		server, _, err := l.kernel.servers.Server(model.Frontend{Addr: l.vips[i], Port: 80, Proto: model.TCP})
		serving := 0
		for _, backend := range server.Backends {
			serving += int(backend.Weight)
		}
		if err != nil || time.Since(started) > time.Minute {
			l.Fatalf("VIP %s has %d backends that serve, want %d: %v", l.vips[i], serving, want, err)
		}
		if serving == want {
			return time.Since(started)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

// BenchmarkEventToKernel measures from the change of one EndpointSlice to its being in IPVS, in a speaker that holds all
// VIPs: watch, the wait for what comes along (20 ms), plan, nftables, IPVS. The kernel's own part is in BenchmarkKernel of
// packages ipvs and nft.
func BenchmarkEventToKernel(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprintf("frontends=%d", n), func(b *testing.B) {
			l := newLarge(b, n)
			l.run()
			var took []time.Duration
			for b.Loop() {
				took = took[:0]
				for i := range benchChanges {
					took = append(took, l.change(i*n/benchChanges))
				}
				slices.Sort(took)
			}
			milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
			b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
			b.ReportMetric(milliseconds(took[len(took)-1]), "max-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkMemory reports what a speaker keeps for a frontend with ten backends: watched objects, plan, and what it knows of
// the kernel's state, with the fakes' own copy of that.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("frontends=%d", n), func(b *testing.B) {
			for b.Loop() {
				l := newLarge(b, n)
				before := heap()
				speaker := l.run()
				b.ReportMetric(float64(heap()-before)/float64(n), "heap-B/frontend")
				runtime.KeepAlive(speaker)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
