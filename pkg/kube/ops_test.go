package kube

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

func TestOpsServesProbesAndMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics, err := NewQueueMetrics(registry, "test")
	if err != nil {
		t.Fatal(err)
	}
	queue := workqueue.NewTypedRateLimitingQueueWithConfig(workqueue.DefaultTypedControllerRateLimiter[string](),
		workqueue.TypedRateLimitingQueueConfig[string]{Name: "things", MetricsProvider: metrics})
	defer queue.ShutDown()
	queue.Add("one")
	ready := errors.New("caches are not filled")
	ops, err := ListenOps(OpsConfig{Address: "127.0.0.1:0", Gatherer: registry, Ready: func() error { return ready }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- ops.Run(ctx) }()
	get := func(path string, status int, part string) {
		t.Helper()
		response, err := http.Get("http://" + ops.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		if response.StatusCode != status || !strings.Contains(string(body), part) {
			t.Errorf("%s: %d %q, want %d %q", path, response.StatusCode, body, status, part)
		}
	}
	get("/healthz", http.StatusOK, "ok")
	get("/readyz", http.StatusServiceUnavailable, "caches are not filled")
	ready = nil
	get("/readyz", http.StatusOK, "ok")
	get("/metrics", http.StatusOK, `test_queue_depth{queue="things"} 1`)
	if _, err := ListenOps(OpsConfig{Address: ops.Addr().String(), Gatherer: registry}); err == nil || !strings.Contains(err.Error(), "--metrics-address") {
		t.Errorf("an address in use: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClientConfigSaysWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		name   string
		config ClientConfig
		says   string
	}{
		{"no file", ClientConfig{Kubeconfig: "/does/not/exist"}, "--kubeconfig=/does/not/exist"},
		{"outside a pod", ClientConfig{}, "pass --kubeconfig=FILE"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			if _, err := tc.config.RESTConfig(); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
	for _, bad := range []ClientConfig{{QPS: -1, Burst: 1}, {QPS: 1, Burst: -1}} {
		if err := bad.Validate(); err == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}
