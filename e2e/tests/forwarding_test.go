package tests

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// ingress are the nodes that are backends of the tests of forwarding, each with a server of its own.
var ingress = v1alpha1.Backends{Kind: v1alpha1.BackendNodes, NodeSelector: hosts("n1", "n2")}

// wantSeen asks 24 times: every ingress node must answer, and see the host that asks by its own address.
func wantSeen(t *testing.T, s *scenario.Scenario, host string, addr netip.Addr) {
	t.Helper()
	own := nodeAddress(t, s, host, addr.Is4())
	by := map[string]bool{}
	for range 24 {
		name, seen, _ := strings.Cut(answers(t, s, host, addr, 80), " ")
		by[name] = true
		if seen != own.String() {
			t.Errorf("%s asked by %s: %s saw %s, want %s", addr, host, name, seen, own)
		}
	}
	if !by["n1"] || !by["n2"] {
		t.Errorf("%s asked 24 times by %s was answered by %v, not by both nodes", addr, host, by)
	}
}

func TestNodesThatHaveTheVIPSeeTheClient(t *testing.T) {
	s, ctx := connect(t)
	if isolated(t, s) {
		t.Skip("an isolated datapath only masquerades: TestForwardingThatCannotBeIsMasqueradedAndTold")
	}
	for _, node := range []string{"n1", "n2"} {
		serve(t, s, node, "http:80")
	}
	for _, forwarding := range []v1alpha1.Forwarding{v1alpha1.ForwardDirect, v1alpha1.ForwardTunnel} {
		t.Run(string(forwarding), func(t *testing.T) {
			poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) { spec.Backends, spec.Forwarding = ingress.DeepCopy(), forwarding })
			for _, addr := range web(t, s, strings.ToLower(string(forwarding))) {
				holder, err := s.Holder(within(ctx, t), addr, "")
				must(t, err)
				for _, host := range []string{"client", "far", "n3"} {
					if host == holder { // whose own processes would send from the VIP to the VIP
						continue
					}
					wantSeen(t, s, host, addr)
					upload := fmt.Sprintf("head -c 200000 /dev/zero | curl -sS --max-time 20 --data-binary @- %s", scenario.URL(addr, 80))
					if out, err := s.Output(ctx, host, "sh", "-c", upload); err != nil { // packets of full size
						t.Errorf("%s: %s cannot send 200 kB: %v %s", addr, host, err, out)
					}
				}
				moveAway(t, s, addr)
				for _, host := range []string{"client", "far"} { // the old holder is a backend as before
					wantSeen(t, s, host, addr)
				}
			}
		})
	}
}

func TestNodesBehindTheHolderSeeTheVIP(t *testing.T) {
	s, _ := connect(t)
	poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) {
		spec.Backends = ingress.DeepCopy()
		spec.Backends.Port = 8080
		spec.NodeSelector = hosts("n3")
	})
	for _, node := range []string{"n1", "n2"} {
		serve(t, s, node, "http:8080")
	}
	for _, addr := range web(t, s, "translated") {
		for _, host := range []string{"client", "far", "n1", "n2"} {
			if by := answers(t, s, host, addr, 80); !strings.HasSuffix(by, " "+addr.String()) && host != "n1" && host != "n2" {
				t.Errorf("%s asked by %s: %q, want a node that sees the VIP", addr, host, by)
			}
		}
		own := nodeAddress(t, s, "n3", addr.Is4())
		if isolated(t, s) {
			own = addr // the holder's own connections come to its datapath as everybody's
		}
		if by := answers(t, s, "n3", addr, 80); !strings.HasSuffix(by, " "+own.String()) {
			t.Errorf("%s asked by its holder: %q, want a node that sees %s", addr, by, own)
		}
	}
}

func TestForwardingThatCannotBeIsMasqueradedAndTold(t *testing.T) {
	s, _ := connect(t)
	pool(t, s)
	addresses := webAs(t, s, "pods-by-tunnel", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{source.AnnotationForwarding: "tunnel"}
	}, "n1")
	why := []string{"port 80/TCP is masqueraded: forwarding Tunnel leaves the port as it is, and backend ", "use one port for both"}
	if isolated(t, s) {
		why = []string{"port 80/TCP is masqueraded: forwarding Tunnel does not work from an isolated network namespace", "--placement=host"}
	}
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
		event(t, s, "VIP", source.VIPName(addr), why...)
	}
}

func TestAServiceChoosesItsBackends(t *testing.T) {
	s, ctx := connect(t)
	name := poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) { spec.DrainSeconds = new(int32) }) // what is left goes at once
	serve(t, s, "n2", "http:8080")
	addresses := webAs(t, s, "chooses", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{
			source.AnnotationBackend: "nodes", source.AnnotationBackendPort: "8080", source.AnnotationBackendNodes: "kubernetes.io/hostname=n2",
			source.AnnotationScheduler: "wlc",
		}
	}, "n1")
	event(t, s, "Service", "chooses", "IPPool "+name+": add Nodes to its spec.serviceBackends")
	for _, addr := range addresses {
		if by := answers(t, s, "client", addr, 80); !strings.HasPrefix(by, "chooses-1 ") {
			t.Errorf("%s is answered by %q, want the pod until the pool allows nodes", addr, by)
		}
	}
	_, err := s.Fairlead.FairleadV1alpha1().IPPools().Patch(ctx, name, types.MergePatchType, []byte(`{"spec":{"serviceBackends":["Nodes"]}}`), metav1.PatchOptions{})
	must(t, err)
	for _, addr := range addresses {
		wantServer(t, s, []string{"n3"}, addr, "wlc", always(map[netip.AddrPort]int{netip.AddrPortFrom(nodeAddress(t, s, "n2", addr.Is4()), 8080): 1}))
		must(t, scenario.Until(within(ctx, t), func() error {
			if by := answers(t, s, "client", addr, 80); !strings.HasPrefix(by, "n2 ") {
				return fmt.Errorf("%s is answered by %q, want n2", addr, by)
			}
			return nil
		}))
	}
}

func TestAServiceSaysHowItIsChecked(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := webAs(t, s, "checks-itself", func(svc *corev1.Service) {
		svc.Annotations = map[string]string{source.AnnotationHealthCheck: "{type: HTTP, port: 8080, path: /, expectedCodes: ['404'], intervalSeconds: 1}"}
	}, "n1", "n2")
	for _, addr := range addresses {
		wantBackends(t, s, addr, "0/2") // both answer 200
		answers(t, s, "client", addr, 80)
	}
	services := s.Core.CoreV1().Services(scenario.Namespace)
	annotate := func(check string) {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, source.AnnotationHealthCheck, check)
		_, err := services.Patch(ctx, "checks-itself", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		must(t, err)
	}
	annotate("{type: GUESS}")
	event(t, s, "Service", "checks-itself", "its VIP cannot be written as its annotations want it", `healthCheck.type: Unsupported value: "GUESS"`)
	annotate("{type: HTTP, port: 8080, intervalSeconds: 1}")
	for _, addr := range addresses {
		wantBackends(t, s, addr, "2/2")
	}
}

func TestAClientKeepsItsBackend(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := webAs(t, s, "affine", func(svc *corev1.Service) {
		seconds := int32(120)
		svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		svc.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}, "n1", "n2", "n3")
	for _, addr := range addresses {
		before := answerers(t, s, "client", addr)
		if len(before) != 1 {
			t.Errorf("%s asked 24 times by one client was answered by %v", addr, before)
		}
		holder, err := s.Holder(within(ctx, t), addr, "")
		must(t, err)
		out, err := s.Output(ctx, holder, "sh", "-c", scenario.Everywhere("ipvsadm -Ln -t "+netip.AddrPortFrom(addr, 80).String()))
		must(t, err)
		if !strings.Contains(out, "mh (mh-fallback) persistent 120") {
			t.Errorf("IPVS has\n%s", out)
		}
		moveAway(t, s, addr)
		if after := answerers(t, s, "client", addr); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s was answered by %v, and after its move by %v", addr, before, after)
		}
	}
}

// TestANodeAndItsPodsMayUseOnePort: what both send to a VIP comes from the node's address. Where the backends are on the holder, IPVS
// would mistake the answers to one for those to the other.
func TestANodeAndItsPodsMayUseOnePort(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := web(t, s, "port", "n1", "n1")
	_, err := s.AddPod(ctx, cluster.Pod{Name: "ports", Namespace: scenario.Namespace, Node: "n2", Listen: []string{"http:8080"}})
	must(t, err)
	t.Cleanup(func() { must(t, s.DeletePod(context.Background(), "ports")) })
	for i, addr := range addresses {
		must(t, s.MoveTo(ctx, addr, "n1"))
		must(t, scenario.Until(within(ctx, t), func() error {
			vip, err := s.VIP(ctx, addr)
			if err != nil {
				return err
			}
			bound, err := s.Output(ctx, "n2", "ip", "addr", "show", "to", addr.String())
			if err == nil && (vip.Status.Node != "n1" || bound != "") {
				err = fmt.Errorf("%s is on node %q, and n2 has %q", addr, vip.Status.Node, bound)
			}
			return err
		}))
		lost := 0
		for port := 40000 + 100*i; port < 40020+100*i; port++ {
			for _, host := range []string{"ports", "n2"} {
				answer, err := s.Output(ctx, host, "curl", "-sS", "--max-time", "4", "--local-port", fmt.Sprint(port), scenario.URL(addr, 80))
				if err != nil || !strings.HasPrefix(answer, "port-") {
					t.Logf("%s asked from port %d of %s: %q, %v", addr, port, host, answer, err)
					lost++
				}
			}
		}
		// A port that is taken again within seconds meets what the servers remember of its last connection now and then.
		if lost > 4 {
			t.Errorf("%d of 40 requests to %s were not answered", lost, addr)
		}
	}
}
