package speaker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/plan"
)

// A Service with externalTrafficPolicy Local has a healthCheckNodePort, at which every node says how many ready pods of the
// Service it has, for load balancers outside the cluster that pick nodes. kube-proxy or what replaces it serves it; on a node
// where nothing does, the speaker.
const (
	// kubeProxyHealth is the port of kube-proxy's own health (--healthz-bind-address). Where it is open the ports are kube-proxy's,
	// those too that it has not opened yet.
	kubeProxyHealth = 10256
	// unserved is how long nobody must have listened on a port before the speaker does, so that it does not come between a
	// starting node's other programs and their ports.
	unserved = 30 * time.Second
	// lookEvery is how often it looks, and lookEveryServing while it serves a port. kube-proxy opens its own health first, and
	// these ports after it has read the API and programmed the node. One that is still taken then it leaves until its next
	// change, which may be an hour away (k8s.io/kubernetes/pkg/proxy/healthcheck, SyncServices; proxy/util, FullSyncPeriod).
	lookEvery        = time.Second
	lookEveryServing = 50 * time.Millisecond
)

// nodeHealth serves healthCheckNodePorts that nobody else serves.
type nodeHealth struct {
	open     func(port int32) bool // whether something listens on a port of this node
	now      func() time.Time
	followed []*plan.Part

	mu   sync.Mutex
	want map[int32]plan.Local

	servers map[int32]*http.Server // used by run alone, as is since
	since   map[int32]time.Time    // when a port was first found unserved
}

func newNodeHealth() *nodeHealth {
	return &nodeHealth{open: isOpen, now: time.Now, servers: map[int32]*http.Server{}, since: map[int32]time.Time{}}
}

// follow takes what is to be told now.
func (h *nodeHealth) follow(result plan.Result) {
	if slices.Equal(h.followed, result.Parts) {
		return
	}
	h.followed = result.Parts
	want := map[int32]plan.Local{}
	for _, part := range result.Parts {
		for _, local := range part.Local {
			if _, known := want[local.Port]; !known {
				want[local.Port] = local
			}
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.want = want
}

func (h *nodeHealth) pods(port int32) (plan.Local, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pods, wanted := h.want[port]
	return pods, wanted
}

// run serves until the context ends.
func (h *nodeHealth) run(ctx context.Context) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	defer h.closeUnless(func(int32) bool { return false })
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		h.look(ctx)
		next := lookEvery
		if len(h.servers) > 0 {
			next = lookEveryServing
		}
		timer.Reset(next)
	}
}

// look opens and closes ports.
func (h *nodeHealth) look(ctx context.Context) {
	h.mu.Lock()
	ports := make([]int32, 0, len(h.want))
	for port := range h.want {
		ports = append(ports, port)
	}
	h.mu.Unlock()
	proxied := len(ports) > 0 && h.open(kubeProxyHealth)
	h.closeUnless(func(port int32) bool { _, wanted := h.pods(port); return wanted && !proxied })
	for port := range h.since {
		if _, wanted := h.pods(port); !wanted || proxied {
			delete(h.since, port)
		}
	}
	if proxied {
		return
	}
	for _, port := range ports {
		switch {
		case h.servers[port] != nil:
		case h.open(port):
			delete(h.since, port)
		case h.since[port].IsZero():
			h.since[port] = h.now()
		case h.now().Sub(h.since[port]) >= unserved:
			h.serve(ctx, port)
		}
	}
}

func (h *nodeHealth) serve(ctx context.Context, port int32) {
	logger := klog.FromContext(ctx).WithValues("healthCheckNodePort", port)
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		logger.V(2).Info("Cannot serve it", "error", err) // somebody was faster
		delete(h.since, port)
		return
	}
	server := &http.Server{Handler: h.handler(port), ReadHeaderTimeout: 5 * time.Second}
	h.servers[port] = server
	logger.Info("Nothing else serves it on this node: the speaker does")
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error(err, "Cannot go on serving it")
		}
	}()
}

func (h *nodeHealth) closeUnless(stays func(port int32) bool) {
	for port, server := range h.servers {
		if !stays(port) {
			_ = server.Close() // it has no state
			delete(h.servers, port)
		}
	}
}

// handler answers as kube-proxy does (k8s.io/kubernetes/pkg/proxy/healthcheck): 200 with pods, 503 without.
func (h *nodeHealth) handler(port int32) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		pods, _ := h.pods(port)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(pods.Pods))
		if pods.Pods == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintf(w, `{"service":{"namespace":%q,"name":%q},"localEndpoints":%d,"serviceProxyHealthy":true}`+"\n",
			pods.Service.Namespace, pods.Service.Name, pods.Pods) // a client that went away needs no answer
	})
}

// isOpen reports whether something listens on a port of this node's own addresses.
func isOpen(port int32) bool {
	for _, host := range []string{"127.0.0.1", "::1"} {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, strconv.Itoa(int(port))), time.Second)
		if err == nil {
			_ = conn.Close() // it opened: that was the question
			return true
		}
	}
	return false
}
