// Package tests is the end-to-end suite: real packets through a real cluster, seen from a client. It runs in what
// `lab run -- ` gives (make test-e2e) and speaks to it through package cluster only.
package tests

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// patience bounds every wait: generous, because what is waited for is what is tested, not how fast it comes.
const patience = 3 * time.Minute

// connect returns the cluster. Without one the tests are skipped, but for make test-e2e, which promises one.
func connect(t testing.TB) (*scenario.Scenario, context.Context) {
	t.Helper()
	if os.Getenv("FAIRLEAD_LAB") == "" {
		if os.Getenv("FAIRLEAD_E2E") != "" {
			t.Fatal("FAIRLEAD_E2E is set, but there is no lab")
		}
		t.Skip("needs a cluster: run by make test-e2e")
	}
	lab, err := cluster.NewLab()
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.New(lab)
	if err != nil {
		t.Fatal(err)
	}
	tellWhy(t, s)
	return s, t.Context()
}

// within is a context for one wait.
func within(ctx context.Context, t testing.TB) context.Context {
	t.Helper()
	limited, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %v", patience))
	t.Cleanup(cancel)
	return limited
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pools gives every test addresses of its own, so that what one leaves behind cannot be another's.
var pools atomic.Int32

// pool makes a pool of 16 IPv4 and 16 IPv6 addresses that ends with the test.
func pool(t testing.TB, s *scenario.Scenario) {
	t.Helper()
	number := pools.Add(1)
	name := fmt.Sprintf("pool-%d", number)
	_, err := s.CreatePool(t.Context(), name, fmt.Sprintf("10.87.%d.16/28", 10+number), fmt.Sprintf("fd87::%d:10/124", 10+number))
	must(t, err)
	t.Cleanup(func() {
		must(t, s.Fairlead.FairleadV1alpha1().IPPools().Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
}

// web makes a dual-stack Service with one pod on each of the nodes named, and returns its addresses. All of it ends with
// the test, and the test fails if anything is left.
func web(t testing.TB, s *scenario.Scenario, name string, nodes ...string) []netip.Addr {
	t.Helper()
	return webAs(t, s, name, func(*corev1.Service) {}, nodes...)
}

// webAs is web with a Service that is changed before it is created.
func webAs(t testing.TB, s *scenario.Scenario, name string, change func(*corev1.Service), nodes ...string) []netip.Addr {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, s.AddWebPods(ctx, name, nodes...))
	return expose(t, s, scenario.Service(name, change), 2, len(nodes))
}

// expose makes a Service for pods that are there, named after it and numbered from 1, and returns its addresses, of which it
// is to have so many. It ends with the test, and so do the pods; the test fails if anything is left.
func expose(t testing.TB, s *scenario.Scenario, service *corev1.Service, families, pods int) []netip.Addr {
	t.Helper()
	ctx, name := within(t.Context(), t), service.Name
	_, err := s.CreateService(ctx, service)
	must(t, err)
	addresses, err := s.Addresses(ctx, name, families)
	must(t, err)
	t.Cleanup(func() {
		ctx := within(context.Background(), t)
		must(t, s.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, name, metav1.DeleteOptions{}))
		for i := range pods {
			must(t, s.DeletePod(ctx, fmt.Sprintf("%s-%d", name, i+1)))
		}
		must(t, s.Gone(ctx, addresses...))
	})
	return addresses
}

// answers waits until an address answers on a port from a host, and returns who answered.
func answers(t testing.TB, s *scenario.Scenario, host string, addr netip.Addr, port int) (by string) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() (err error) {
		by, err = s.Output(ctx, host, "curl", "-s", "--max-time", "1", scenario.URL(addr, port))
		return err
	}))
	return by
}

func urls(addresses []netip.Addr) (out []string) {
	for _, addr := range addresses {
		out = append(out, scenario.URL(addr, 80))
	}
	return out
}
