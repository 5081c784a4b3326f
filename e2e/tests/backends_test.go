package tests

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// poolWith makes a pool of addresses of its own whose settings a test decides, and returns its name.
func poolWith(t testing.TB, s *scenario.Scenario, change func(*v1alpha1.IPPoolSpec)) string {
	t.Helper()
	number := pools.Add(1)
	name := fmt.Sprintf("pool-%d", number)
	temporaryPool(t, s, name, func(pool *v1alpha1.IPPool) { change(&pool.Spec) },
		fmt.Sprintf("10.87.%d.16/28", 10+number), fmt.Sprintf("fd87::%d:10/124", 10+number))
	return name
}

// hosts selects nodes by name.
func hosts(names ...string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: corev1.LabelHostname, Operator: metav1.LabelSelectorOpIn, Values: names},
	}}
}

// serve answers on a host itself, not in a pod of it, until the test ends or the returned function ends it.
func serve(t testing.TB, s *scenario.Scenario, host string, listens ...string) (stop func()) {
	t.Helper()
	signals := make(chan os.Signal, 1)
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	command := []string{"lab", "serve", "--name", host}
	for _, listen := range listens {
		command = append(command, "--listen", listen)
	}
	go func() {
		err := s.Exec(context.Background(), host, cluster.Stdio{Out: writer, Signals: signals}, command...)
		writer.CloseWithError(fmt.Errorf("the server on %s ended: %w", host, err))
		done <- err
	}()
	if _, err := bufio.NewReader(reader).ReadString('\n'); err != nil { // it says so once it listens
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		signals <- syscall.SIGTERM
		must(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// wantServer waits until every node of a list balances port 80 of an address so; weights are those of a node, who may be the
// holder.
func wantServer(t *testing.T, s *scenario.Scenario, nodes []string, addr netip.Addr, scheduler string, weights func(node, holder string) map[netip.AddrPort]int) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		holder, err := s.Holder(ctx, addr, "")
		if err != nil {
			return err
		}
		for _, node := range nodes {
			want := weights(node, holder)
			server, _, err := scenario.ReadServer(ctx, s.Cluster, node, netip.AddrPortFrom(addr, 80))
			if err != nil {
				return err
			}
			if server.Scheduler != scheduler || !maps.Equal(server.Weights, want) {
				return fmt.Errorf("%s on node %s has %s, want scheduler %s, weights %v (holder %s)", addr, node, server, scheduler, want, holder)
			}
		}
		return nil
	}))
}

// always is the same weights on every node.
func always(weights map[netip.AddrPort]int) func(string, string) map[netip.AddrPort]int {
	return func(string, string) map[netip.AddrPort]int { return weights }
}

func wantBackends(t *testing.T, s *scenario.Scenario, addr netip.Addr, want string) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		vip, err := s.VIP(ctx, addr)
		if err == nil && vip.Status.Backends != want {
			err = fmt.Errorf("VIP %s has backends %s, want %s", addr, vip.Status.Backends, want)
		}
		return err
	}))
}

// answerers waits for an answer, then asks 24 times, each on a connection of its own, and returns who answered; every time
// somebody must.
func answerers(t *testing.T, s *scenario.Scenario, host string, addr netip.Addr) map[string]bool {
	t.Helper()
	answers(t, s, host, addr, 80)
	ask := []string{"curl", "-sS", "--fail-early", "--max-time", "5", "--header", "Connection: close"}
	for range 24 {
		ask = append(ask, scenario.URL(addr, 80))
	}
	out, err := s.Output(t.Context(), host, ask...)
	if err != nil {
		t.Errorf("%s asked by %s: %v", addr, host, err)
	}
	by := map[string]bool{}
	for line := range strings.Lines(out) {
		name, _, _ := strings.Cut(line, " ")
		by[name] = true
	}
	return by
}

// isolated reports whether the speakers run in isolated placement.
func isolated(t *testing.T, s *scenario.Scenario) bool {
	t.Helper()
	isolated, err := scenario.Isolated(t.Context(), s.Cluster, everyNode[0])
	must(t, err)
	return isolated
}

var everyNode = []string{"n1", "n2", "n3"}

func TestBackendsThatAreNodePortsAnswer(t *testing.T) {
	s, ctx := connect(t)
	poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) { spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodePort} })
	addresses := web(t, s, "nodeports", "n1", "n2")
	service, err := s.Core.CoreV1().Services(scenario.Namespace).Get(ctx, "nodeports", metav1.GetOptions{})
	must(t, err)
	port := uint16(service.Spec.Ports[0].NodePort)
	for _, addr := range addresses {
		wanted := ""
		for _, node := range everyNode {
			others := map[netip.AddrPort]int{}
			for _, other := range everyNode {
				if other != node || isolated(t, s) { // kube-proxy translates what comes from an isolated datapath
					others[netip.AddrPortFrom(nodeAddress(t, s, other, addr.Is4()), port)] = 1
				}
			}
			wantServer(t, s, []string{node}, addr, "mh", always(others))
			answers(t, s, "client", nodeAddress(t, s, node, addr.Is4()), int(port)) // kube-proxy is as far
			wanted = fmt.Sprintf("%d/%d", len(others), len(others))
		}
		wantBackends(t, s, addr, wanted)
		for _, host := range []string{"client", "far", "n1", "n2", "n3", "nodeports-1"} {
			if by := answerers(t, s, host, addr); len(by) != 2 {
				t.Errorf("%s asked 24 times by %s was answered by %v, not by both pods", addr, host, by)
			}
		}
	}
}

func TestBackendsThatAreNodesFollowTheirHealthPort(t *testing.T) {
	s, _ := connect(t)
	poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) {
		spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, Port: 8080, NodeSelector: hosts("n1", "n2")}
		spec.HealthCheck = &v1alpha1.HealthCheck{
			Type: v1alpha1.CheckHTTP, Port: 1936, IntervalSeconds: 1, RemoveAfterSeconds: new(int32(3600)),
		}
	})
	health := map[string]func(){}
	for _, node := range []string{"n1", "n2"} {
		serve(t, s, node, "http:8080")
		health[node] = serve(t, s, node, "http:1936")
	}
	addresses := web(t, s, "ingress") // no pods: the nodes themselves answer
	want := func(n1, n2 int, ready string) {
		t.Helper()
		for _, addr := range addresses {
			weights := map[netip.AddrPort]int{}
			for backend, weight := range map[string]int{"n1": n1, "n2": n2} {
				weights[netip.AddrPortFrom(nodeAddress(t, s, backend, addr.Is4()), 8080)] = weight
			}
			wantServer(t, s, everyNode, addr, "mh", always(weights))
			wantBackends(t, s, addr, ready)
		}
	}
	want(1, 1, "2/2")
	for _, addr := range addresses {
		holder, err := s.Holder(within(t.Context(), t), addr, "")
		must(t, err)
		for _, host := range []string{"client", "far", "n1", "n2", "n3"} {
			if by := answerers(t, s, host, addr); !by["n1"] || !by["n2"] {
				t.Errorf("%s on %s asked 24 times by %s was answered by %v", addr, holder, host, by)
			}
		}
	}

	health["n2"]()
	want(1, 0, "1/2")
	for _, addr := range addresses {
		answers(t, s, "client", nodeAddress(t, s, "n2", addr.Is4()), 8080) // the port that is balanced is still open
		if by := answerers(t, s, "client", addr); by["n2"] {
			t.Errorf("%s was answered by %v, although n2 fails its check", addr, by)
		}
		event(t, s, "VIP", source.VIPName(addr), netip.AddrPortFrom(nodeAddress(t, s, "n2", addr.Is4()), 8080).String(),
			"(checked at port 1936): HTTP GET /: connection refused")
	}
	health["n1"]()
	want(1, 1, "0/2")
	for _, addr := range addresses {
		answerers(t, s, "client", addr)
	}
	serve(t, s, "n2", "http:1936")
	want(0, 1, "1/2")
	serve(t, s, "n1", "http:1936")
	want(1, 1, "2/2")
}

func TestBackendsThatAreListedAnswer(t *testing.T) {
	s, _ := connect(t)
	hosts, err := s.Hosts(t.Context())
	must(t, err)
	spec := v1alpha1.Backends{Kind: v1alpha1.BackendStatic, Port: 9000}
	for _, host := range hosts {
		if host.Name == "far" {
			for _, addr := range host.Addresses {
				spec.Addresses = append(spec.Addresses, addr.String())
			}
		}
	}
	poolWith(t, s, func(pool *v1alpha1.IPPoolSpec) { pool.Backends = &spec })
	serve(t, s, "far", "http:9000")
	for _, addr := range web(t, s, "listed") {
		if by := answers(t, s, "client", addr, 80); !strings.HasPrefix(by, "far ") {
			t.Errorf("%s was answered by %q, not by the host far", addr, by)
		}
		wantBackends(t, s, addr, "1/1")
	}
}

func TestBackendsArePickedByThePoolsScheduler(t *testing.T) {
	s, ctx := connect(t)
	name := poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) { spec.Scheduler = "rr" })
	addresses := web(t, s, "scheduled", "n1", "n2")
	want := func(scheduler string) {
		t.Helper()
		for _, addr := range addresses {
			weights := map[netip.AddrPort]int{}
			for _, pod := range []string{"scheduled-1", "scheduled-2"} {
				weights[netip.AddrPortFrom(nodeAddress(t, s, pod, addr.Is4()), 8080)] = 1
			}
			wantServer(t, s, everyNode, addr, scheduler, always(weights))
			answers(t, s, "client", addr, 80)
		}
	}
	want("rr")
	patch := []byte(`{"spec":{"scheduler":"sh"}}`)
	_, err := s.Fairlead.FairleadV1alpha1().IPPools().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	must(t, err)
	want("sh")
	for _, addr := range addresses {
		if by := answerers(t, s, "client", addr); len(by) != 1 {
			t.Errorf("with scheduler sh one client was answered by %v", by)
		}
	}
}

func TestBackendsThatMakeNoSenseAreRefused(t *testing.T) {
	s, ctx := connect(t)
	for name, test := range map[string]struct{ spec, message string }{
		"Static without addresses":         {`"backends":{"kind":"Static"}`, "kind Static needs addresses: list the backends there"},
		"addresses without Static":         {`"backends":{"addresses":["192.0.2.1"]}`, "addresses are for kind Static: set kind to Static"},
		"an address that is none":          {`"backends":{"kind":"Static","addresses":["192.0.2.300"]}`, "must be an IP address"},
		"a selector of pods":               {`"backends":{"kind":"Pods","nodeSelector":{}}`, "nodeSelector is for the kinds NodePort and Nodes"},
		"a port of NodePorts":              {`"backends":{"kind":"NodePort","port":80}`, "port is for the kinds Nodes and Static"},
		"a kind that is not known":         {`"backends":{"kind":"Virtual"}`, `supported values: "Pods", "NodePort", "Nodes", "Static"`},
		"a path of TCP":                    {`"healthCheck":{"path":"/healthz"}`, "are for the types HTTP and HTTPS: set type"},
		"a certificate of HTTP":            {`"healthCheck":{"type":"HTTP","verifyCertificate":true}`, "set type to HTTPS"},
		"codes that are none":              {`"healthCheck":{"type":"HTTP","expectedCodes":["2xx"]}`, "spec.healthCheck.expectedCodes[0]"},
		"codes that end before they begin": {`"healthCheck":{"type":"HTTP","expectedCodes":["399-200"]}`, "must not end before it begins"},
		"a body of TCP":                    {`"healthCheck":{"bodyContains":"UP"}`, "are for the types HTTP and HTTPS: set type"},
		"authorities for nothing":          {`"healthCheck":{"type":"HTTPS","caBundle":"-----BEGIN CERTIFICATE-----"}`, "set verifyCertificate to true"},
		"authorities that are none":        {`"healthCheck":{"type":"HTTPS","verifyCertificate":true,"caBundle":"ca.pem"}`, "spec.healthCheck.caBundle"},
		"a payload of TCP":                 {`"healthCheck":{"payload":"AA=="}`, "payload and expectedReply are for type UDP"},
		"a gRPC service of HTTP":           {`"healthCheck":{"type":"HTTP","grpcService":"web"}`, "grpcService is for type GRPC"},
		"a last resort without a port":     {`"healthCheck":{"lastResort":["192.0.2.80"]}`, "spec.healthCheck.lastResort[0]"},
		"a last resort that is no address": {`"healthCheck":{"lastResort":["192.0.2.800:80"]}`, "must be an IP address with a port"},
		"a last resort at no port":         {`"healthCheck":{"lastResort":["[2001:db8::80]:65536"]}`, "must be an IP address with a port"},
		"a policy that is not known":       {`"healthCheck":{"whenAllFail":"Ajar"}`, `supported values: "Open", "Closed"`},
		"a drain without an end":           {`"drainSeconds":86400`, "spec.drainSeconds"},
		"a scheduler that is not known":    {`"scheduler":"fastest"`, "spec.scheduler: Unsupported value"},
	} {
		body := fmt.Sprintf(`{"apiVersion":"fairlead.dev/v1alpha1","kind":"IPPool","metadata":{"name":"senseless"},`+
			`"spec":{"addresses":["10.87.250.1"],"autoAssign":false,%s}}`, test.spec)
		err := s.Core.CoreV1().RESTClient().Post().AbsPath("/apis/fairlead.dev/v1alpha1/ippools").
			SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(ctx).Error()
		if err == nil {
			t.Errorf("%s: was accepted", name)
			must(t, s.Fairlead.FairleadV1alpha1().IPPools().Delete(ctx, "senseless", metav1.DeleteOptions{}))
		} else if !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: refused by %q, which does not say %q", name, err, test.message)
		}
	}
}
