package kube

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

// patientClients are of an API server that answers everything with a status, and cannot be reached while away is set.
func patientClients(t *testing.T, status int, away *atomic.Bool) *Clients {
	t.Helper()
	before := betweenDials
	betweenDials = wait.Backoff{Duration: time.Millisecond}
	t.Cleanup(func() { betweenDials = before })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(server.Close)
	clients, err := NewClients(Patient(&rest.Config{
		Host: server.URL, QPS: DefaultQPS, Burst: DefaultBurst,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if away.Load() {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

func TestAWatchWaitsForAnAPIServerThatCannotBeReached(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	clients := patientClients(t, http.StatusOK, &away)
	answered := make(chan error, 1)
	go func() {
		watch, err := clients.Core.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{})
		if err == nil {
			watch.Stop()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("without an API server a watch got error %v, not patience", err)
	case <-time.After(100 * time.Millisecond): // some 50 attempts
	}
	away.Store(false)
	select {
	case err := <-answered:
		if err != nil {
			t.Errorf("with the API server back the watch got error %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("a watch does not find the API server that is back")
	}
}

func TestOnlyWatchesWait(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	clients := patientClients(t, http.StatusOK, &away)
	if _, err := clients.Core.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a list from an API server that cannot be reached got no error")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := clients.Core.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{}); err == nil {
		t.Error("a watch that nobody waits for any more got no error")
	}
}

// TestAnAnswerIsNoReasonToWait: what the API server says is for the reflector to judge.
func TestAnAnswerIsNoReasonToWait(t *testing.T) {
	clients := patientClients(t, http.StatusForbidden, &atomic.Bool{})
	if _, err := clients.Core.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a watch that is forbidden got no error")
	}
}
