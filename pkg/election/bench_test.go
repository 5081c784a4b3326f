package election

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	clienttesting "k8s.io/client-go/testing"
)

// crowd is what one of many speakers sees at instant 100 s: all live, and the VIPs are spread over those that own any.
func crowd(speakers, vips, owners int) View {
	v := View{
		Self: Owner{"n1", "1"}, Registered: true, Renewed: 99 * second, Attempted: 99*second + second/2,
		Peers: map[string]Peer{}, Claims: map[string]Claim{},
	}
	var candidates []string
	for i := range speakers {
		node := fmt.Sprintf("n%d", i+1)
		candidates = append(candidates, node)
		if node != v.Self.Node {
			v.Peers[node] = Peer{Owner: Owner{node, "1"}, Version: "1", VersionSeen: 99 * second, EpochSeen: 10 * second}
		}
	}
	for i := range vips {
		name := fmt.Sprintf("10.87.%d.%d", i>>8, i&0xff)
		v.VIPs = append(v.VIPs, VIP{Name: name, Seen: 10 * second, Candidates: candidates})
		if owners > 0 {
			v.Claims[name] = Claim{Owner: Owner{candidates[i%owners], "1"}, Version: "1", Seen: 20 * second}
		}
	}
	return v
}

// BenchmarkDecide measures one decision with 10,000 VIPs: at rest, as every renewal asks for one; after the heartbeat of an
// owner was revoked; and when nobody holds anything yet.
func BenchmarkDecide(b *testing.B) {
	const vips = 10_000
	for _, speakers := range []int{3, 20} {
		rest, takeover := crowd(speakers, vips, speakers), crowd(speakers, vips, speakers)
		takeover.Peers["n2"] = Peer{Owner: Owner{Node: "n2"}, Revoked: "1", Version: "2", VersionSeen: 100 * second, EpochSeen: 100 * second}
		for _, scene := range []struct {
			name string
			view View
		}{{"rest", rest}, {"takeover", takeover}, {"start", crowd(speakers, vips, 0)}} {
			b.Run(fmt.Sprintf("%s/speakers=%d", scene.name, speakers), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Decide(100*second, DefaultTiming(), scene.view)
				}
			})
		}
	}
}

// store keeps the Leases of electors as an API server does that takes a moment to answer, and counts what came too late.
type store struct {
	coordinationclient.LeaseInterface
	mu       sync.Mutex
	version  int
	leases   map[string]*coordinationv1.Lease
	watchers []*watch.FakeWatcher
	late     int
}

// answers is how long an API server takes for a write.
const answers = 5 * time.Millisecond

func (s *store) Create(_ context.Context, lease *coordinationv1.Lease, _ metav1.CreateOptions) (*coordinationv1.Lease, error) {
	return s.put(lease, (*watch.FakeWatcher).Add)
}

func (s *store) Update(_ context.Context, lease *coordinationv1.Lease, _ metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	return s.put(lease, (*watch.FakeWatcher).Modify)
}

func (s *store) put(lease *coordinationv1.Lease, tell func(*watch.FakeWatcher, apiruntime.Object)) (*coordinationv1.Lease, error) {
	time.Sleep(answers)
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.leases[lease.Name]; known != nil && known.ResourceVersion != lease.ResourceVersion {
		s.late++
		return nil, apierrors.NewConflict(coordinationv1.Resource("leases"), lease.Name, nil)
	}
	s.version++
	lease = lease.DeepCopy()
	lease.ResourceVersion = strconv.Itoa(s.version)
	s.leases[lease.Name] = lease
	for _, watcher := range s.watchers {
		tell(watcher, lease)
	}
	return lease, nil
}

func (s *store) Get(_ context.Context, name string, _ metav1.GetOptions) (*coordinationv1.Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lease := s.leases[name]; lease != nil {
		return lease, nil
	}
	return nil, apierrors.NewNotFound(coordinationv1.Resource("leases"), name)
}

// open is a watch that its reader does not close: another elector may be writing when one ends.
type open struct{ *watch.FakeWatcher }

func (open) Stop() {}

// client gives an elector its watch: its writes go to the store itself.
func (s *store) client() *fake.Clientset {
	client := fake.NewClientset()
	client.PrependWatchReactor("leases", func(clienttesting.Action) (bool, watch.Interface, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		watcher := watch.NewFakeWithChanSize(1<<17, false)
		s.watchers = append(s.watchers, watcher)
		for _, lease := range s.leases {
			watcher.Add(lease)
		}
		return true, open{watcher}, nil
	})
	return client
}

// BenchmarkClaims measures how long three speakers take to claim 10,000 VIPs that come at once, and counts the writes that came
// too late: each is one more for the API server.
func BenchmarkClaims(b *testing.B) {
	for b.Loop() {
		s := &store{leases: map[string]*coordinationv1.Lease{}}
		ctx, cancel := context.WithCancel(context.Background())
		var work sync.WaitGroup
		vips := crowd(3, 10_000, 0).VIPs
		var electors []*Elector
		for _, node := range vips[0].Candidates {
			e := New(Config{Node: node, Namespace: namespace, Client: s.client(), Timing: DefaultTiming(), Clock: BootTime, Notify: func() {}})
			e.leases = s
			electors = append(electors, e)
			work.Go(func() { _ = e.Run(ctx) })
			e.SetInfo(Info{})
		}
		until(b, func() bool {
			for _, e := range electors {
				if len(e.Status().Speakers) < len(electors) {
					return false
				}
			}
			return true
		})
		started := time.Now()
		for _, e := range electors {
			e.SetVIPs(slices.Clone(vips), Status{Settled: true})
		}
		until(b, func() bool {
			held := 0
			for _, e := range electors {
				held += len(e.Status().Hold)
			}
			return held == len(vips)
		})
		b.ReportMetric(time.Since(started).Seconds(), "s-to-all")
		b.ReportMetric(float64(s.late), "late-writes")
		cancel()
		work.Wait()
	}
	b.ReportMetric(0, "ns/op")
}

func until(b *testing.B, check func() bool) {
	b.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatal("waited in vain")
		}
	}
}
