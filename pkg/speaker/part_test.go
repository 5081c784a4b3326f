package speaker

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	corefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/fairlead/fairlead/pkg/election"
	fairleadfake "github.com/fairlead/fairlead/pkg/generated/clientset/versioned/fake"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/nft"
)

// TestASpeakerThatHeardNothingTouchesNothing: it ends before the API server told it what an earlier speaker of its node left.
func TestASpeakerThatHeardNothingTouchesNothing(t *testing.T) {
	f := newFakes(nft.NewFake())
	apply(t, f.datapath(), holder())
	f.addresses.Writes() // those are not its own

	leases := corefake.NewSimpleClientset()
	var asked atomic.Bool
	leases.PrependReactor("*", "leases", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetVerb() != "list" && action.GetVerb() != "watch" {
			asked.Store(true)
			return true, nil, errors.New("the API server does not answer")
		}
		return false, nil, nil
	})
	speaker, err := New(Config{
		Node: "n1", Namespace: "fairlead-system", Recorder: forgetful{}, Timing: election.DefaultTiming(),
		Clients:         &kube.Clients{Core: corefake.NewSimpleClientset(), Fairlead: fairleadfake.NewSimpleClientset()},
		LeaseClients:    &kube.Clients{Core: leases},
		Kernel:          Kernel{Sysctls: f.sysctls, Table: f.table, Servers: f.servers, Addresses: f.addresses, Announcer: f.announcer},
		WatchInterfaces: func(ctx context.Context, _ func()) { <-ctx.Done() },
		Metrics:         NewMetrics(prometheus.NewRegistry()), ElectionMetrics: election.NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- speaker.Run(ctx) }()
	for deadline := time.Now().Add(30 * time.Second); !asked.Load(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not try to take part")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if did := f.addresses.Writes(); len(did) != 0 || !slices.Equal(f.bound(t), holder().Bindings) {
		t.Errorf("it did %v; bound are %v", did, f.bound(t))
	}
}
