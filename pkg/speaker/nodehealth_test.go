package speaker

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/plan"
)

// localSnapshot has a Service with a healthCheckNodePort and pods on node n1.
func localSnapshot(port int32, pods int) plan.Snapshot {
	frontend := v1alpha1.Frontend{
		Port: 80, Protocol: corev1.ProtocolTCP, Service: v1alpha1.ServiceReference{Namespace: "default", Name: "web"},
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal, HealthCheckNodePort: port,
	}
	return plan.Snapshot{
		Node: "n1", VIPs: []*v1alpha1.VIP{{Spec: v1alpha1.VIPSpec{Address: "10.87.2.10", Frontends: []v1alpha1.Frontend{frontend}}}},
		Slices: func(types.NamespacedName) []*discoveryv1.EndpointSlice {
			slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
			node := "n1"
			for range pods {
				slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.244.1.2"}, NodeName: &node})
			}
			return []*discoveryv1.EndpointSlice{slice}
		},
	}
}

// freePort is a port that nobody listens on.
func freePort(t *testing.T) int32 {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return int32(listener.Addr().(*net.TCPAddr).Port)
}

func get(port int32) (status int, weight, body string, err error) {
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", port))
	if err != nil {
		return 0, "", "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, answer.Header.Get("X-Load-Balancing-Endpoint-Weight"), string(text), err
}

func TestHealthCheckNodePortsAreServedWhereNothingElseDoes(t *testing.T) {
	http.DefaultTransport.(*http.Transport).DisableKeepAlives = true
	port, now, proxy := freePort(t), time.Now(), false
	h := newNodeHealth()
	h.now = func() time.Time { return now }
	h.open = func(asked int32) bool { return asked == kubeProxyHealth && proxy }
	defer h.closeUnless(func(int32) bool { return false })
	look := func(after time.Duration) {
		now = now.Add(after)
		h.look(t.Context())
	}
	h.follow(plan.Node(localSnapshot(port, 2)))
	look(0)
	look(unserved - time.Second)
	if _, _, _, err := get(port); err == nil {
		t.Error("the port is served before others had the time to")
	}
	look(time.Second)
	if status, weight, body, err := get(port); status != http.StatusOK || weight != "2" || err != nil ||
		!strings.Contains(body, `"namespace":"default","name":"web"`) || !strings.Contains(body, `"localEndpoints":2`) {
		t.Errorf("with pods: status %d, weight %s, %s, error %v", status, weight, body, err)
	}
	h.follow(plan.Node(localSnapshot(port, 0)))
	if status, weight, _, err := get(port); status != http.StatusServiceUnavailable || weight != "0" || err != nil {
		t.Errorf("without pods: status %d, weight %s, error %v", status, weight, err)
	}
	proxy = true
	look(time.Second)
	if _, _, _, err := get(port); err == nil {
		t.Error("the port is served although kube-proxy is there")
	}
	proxy = false
	look(time.Second)
	look(unserved)
	h.follow(plan.Node(localSnapshot(0, 2)))
	look(time.Second)
	if _, _, _, err := get(port); err == nil {
		t.Error("the port is served although no Service has it")
	}
}

func TestAPortThatSomebodyServesIsLeftToHim(t *testing.T) {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	now := time.Now()
	h := newNodeHealth()
	h.now = func() time.Time { return now }
	h.follow(plan.Node(localSnapshot(int32(listener.Addr().(*net.TCPAddr).Port), 1)))
	for range 3 {
		h.look(t.Context())
		now = now.Add(unserved)
	}
	if len(h.servers) != 0 {
		t.Error("the speaker serves a port that another program has")
	}
}
