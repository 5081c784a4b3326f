package kube

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func TestReconnectMovesWatchesToOtherConnections(t *testing.T) {
	connections := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.(http.Flusher).Flush()
		connections <- r.RemoteAddr
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	clients, err := NewLeaseClients(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	var seen [2]string
	for i := range seen {
		watch, err := clients.Core.CoreV1().Nodes().Watch(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		seen[i] = <-connections
		clients.Reconnect()
		select {
		case _, goesOn := <-watch.ResultChan():
			if goesOn {
				t.Error("a watch told of something that nobody sent")
			}
		case <-time.After(time.Minute):
			t.Fatal("a watch goes on, on a connection that was to be closed")
		}
	}
	if seen[0] == seen[1] {
		t.Errorf("both watches are on the connection from %s", seen[0])
	}
}

func TestFakesNeedNoReconnecting(*testing.T) { (&Clients{}).Reconnect() }
