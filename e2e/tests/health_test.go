package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/e2e/cluster"
	pods "github.com/fairlead/fairlead/e2e/lab/serve"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// pair makes a Service with two pods on n1 and n2 that listen so, and returns its addresses.
func pair(t *testing.T, s *scenario.Scenario, name string, port int32, listens ...string) []netip.Addr {
	t.Helper()
	ctx := within(t.Context(), t)
	for i, node := range []string{"n1", "n2"} {
		_, err := s.AddPod(ctx, cluster.Pod{
			Name: fmt.Sprintf("%s-%d", name, i+1), Namespace: scenario.Namespace, Node: node,
			Labels: map[string]string{"app": name}, Listen: listens,
		})
		must(t, err)
	}
	return expose(t, s, scenario.Service(name, func(service *corev1.Service) {
		service.Spec.Ports[0].TargetPort = intstr.FromInt32(port)
	}), 2, 2)
}

// podWeights are the weights of the pods of a pair at a port; below 0: the pod is no backend.
func podWeights(t *testing.T, s *scenario.Scenario, addr netip.Addr, port uint16, weights map[string]int) map[netip.AddrPort]int {
	t.Helper()
	out := map[netip.AddrPort]int{}
	for pod, weight := range weights {
		if weight >= 0 {
			out[netip.AddrPortFrom(nodeAddress(t, s, pod, addr.Is4()), port)] = weight
		}
	}
	return out
}

func TestAPodThatTerminatesKeepsItsConnections(t *testing.T) {
	s, ctx := connect(t)
	name := poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) { spec.DrainSeconds = new(int32(3600)) })
	addresses := pair(t, s, "draining", 9000, "tcp:9000")
	leaves, stays := "draining-1", "draining-2"
	var held []*conversation
	for _, addr := range addresses {
		wantServer(t, s, everyNode, addr, "mh", always(podWeights(t, s, addr, 9000, map[string]int{leaves: 1, stays: 1})))
		must(t, scenario.Until(within(ctx, t), func() error {
			c, by := converse(t, s, "client", addr, 80)
			if by != leaves {
				return fmt.Errorf("%s answers at %s, want %s", by, addr, leaves)
			}
			held = append(held, c)
			return nil
		}))
	}
	must(t, s.TerminatePod(ctx, leaves))
	for i, addr := range addresses {
		wantServer(t, s, everyNode, addr, "mh", always(podWeights(t, s, addr, 9000, map[string]int{leaves: 0, stays: 1})))
		for range 6 {
			if _, by := converse(t, s, "client", addr, 80); by != stays {
				t.Errorf("a new connection to %s went to %s, which terminates", addr, by)
			}
		}
		if by := held[i].say(); by != leaves {
			t.Errorf("the connection with %s is answered by %s, not by %s", addr, by, leaves)
		}
	}
	// The time is over for those that will not end.
	patch := []byte(`{"spec":{"drainSeconds":5}}`)
	_, err := s.Fairlead.FairleadV1alpha1().IPPools().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	must(t, err)
	for _, addr := range addresses {
		wantServer(t, s, everyNode, addr, "mh", always(podWeights(t, s, addr, 9000, map[string]int{stays: 1})))
		event(t, s, "VIP", source.VIPName(addr), "was removed from port 80/TCP with 1 connections left: drainSeconds (5) were over")
	}
}

func TestAPodThatTerminatesWithoutConnectionsIsRemovedByTheHolder(t *testing.T) {
	s, ctx := connect(t)
	poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) { spec.DrainSeconds = new(int32(3600)) })
	addresses := pair(t, s, "idle", 9000, "tcp:9000")
	want := func(holder, standby int) {
		t.Helper()
		for _, addr := range addresses {
			wantServer(t, s, everyNode, addr, "mh", func(node, holds string) map[netip.AddrPort]int {
				weight := standby
				if node == holds {
					weight = holder
				}
				return podWeights(t, s, addr, 9000, map[string]int{"idle-1": weight, "idle-2": 1})
			})
		}
	}
	want(1, 1)
	must(t, s.TerminatePod(ctx, "idle-1"))
	want(-1, 0)
}

func TestBackendsThatFailByGRPCAreRemovedAndReplaced(t *testing.T) {
	s, ctx := connect(t)
	far := map[bool]netip.Addr{true: nodeAddress(t, s, "far", true), false: nodeAddress(t, s, "far", false)}
	name := poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) {
		spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, Port: 8080, NodeSelector: hosts("n1", "n2")}
		spec.DrainSeconds = new(int32(0))
		spec.HealthCheck = &v1alpha1.HealthCheck{
			Type: v1alpha1.CheckGRPC, Port: 9090, IntervalSeconds: 1, RemoveAfterSeconds: new(int32(1)),
			LastResort: []string{netip.AddrPortFrom(far[true], 8081).String(), netip.AddrPortFrom(far[false], 8081).String()},
		}
	})
	health := map[string]func(){}
	for _, node := range []string{"n1", "n2"} {
		serve(t, s, node, "http:8080")
		health[node] = serve(t, s, node, "grpc:9090")
	}
	serve(t, s, "far", "http:8081")
	addresses := web(t, s, "checked")
	want := func(sorry bool, up ...string) {
		t.Helper()
		for _, addr := range addresses {
			weights := map[netip.AddrPort]int{}
			if sorry {
				weights[netip.AddrPortFrom(far[addr.Is4()], 8081)] = 1
			}
			for _, backend := range up {
				weights[netip.AddrPortFrom(nodeAddress(t, s, backend, addr.Is4()), 8080)] = 1
			}
			wantServer(t, s, everyNode, addr, "mh", always(weights))
		}
	}
	want(false, "n1", "n2")
	health["n2"]()
	want(false, "n1")
	health["n1"]()
	want(true)
	for _, addr := range addresses {
		if by := answerers(t, s, "client", addr); len(by) != 1 || !by["far"] {
			t.Errorf("%s was answered by %v, not by the last resort", addr, by)
		}
		event(t, s, "VIP", source.VIPName(addr), "port 80/TCP: 0 of 2 backends are up, and 1 must be: connections go to the last resort")
	}
	patch := []byte(`{"spec":{"healthCheck":{"lastResort":null,"whenAllFail":"Closed"}}}`)
	_, err := s.Fairlead.FairleadV1alpha1().IPPools().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	must(t, err)
	want(false)
	for _, addr := range addresses {
		refused(t, s, "client", addr)
	}
	serve(t, s, "n2", "grpc:9090")
	want(false, "n2")
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
}

// refused asserts that a host is told that an address takes no connection.
func refused(t *testing.T, s *scenario.Scenario, host string, addr netip.Addr) {
	t.Helper()
	_, err := s.Output(t.Context(), host, "curl", "-sS", "--max-time", "10", scenario.URL(addr, 80))
	if exit := (*cluster.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(strings.ToLower(err.Error()), "connection refused") &&
		!strings.Contains(err.Error(), "Could not connect") && !strings.Contains(err.Error(), "Couldn't connect") {
		t.Errorf("%s asked by %s: error %v, want that the connection is refused", addr, host, err)
	}
}

func TestAUDPCheckWantsTheReply(t *testing.T) {
	s, _ := connect(t)
	poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) {
		spec.HealthCheck = &v1alpha1.HealthCheck{
			Type: v1alpha1.CheckUDP, IntervalSeconds: 1, Payload: []byte("who"), ExpectedReply: []byte("resolver-1 "),
		}
	})
	ctx := within(t.Context(), t)
	for i, node := range []string{"n1", "n2"} {
		_, err := s.AddPod(ctx, cluster.Pod{
			Name: fmt.Sprintf("resolver-%d", i+1), Namespace: scenario.Namespace, Node: node,
			Labels: map[string]string{"app": "resolver"}, Listen: []string{"udp:5300"},
		})
		must(t, err)
	}
	_, err := s.CreateService(ctx, scenario.Service("resolver", func(service *corev1.Service) {
		service.Spec.Ports = []corev1.ServicePort{{Name: "dns", Port: 53, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(5300)}}
	}))
	must(t, err)
	addresses, err := s.Addresses(ctx, "resolver", 2)
	must(t, err)
	t.Cleanup(func() {
		ctx := within(context.Background(), t)
		must(t, s.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, "resolver", metav1.DeleteOptions{}))
		for i := range 2 {
			must(t, s.DeletePod(ctx, fmt.Sprintf("resolver-%d", i+1)))
		}
		must(t, s.Gone(ctx, addresses...))
	})
	for _, addr := range addresses {
		wantBackends(t, s, addr, "1/2")
		wrong := netip.AddrPortFrom(nodeAddress(t, s, "resolver-2", addr.Is4()), 5300)
		event(t, s, "VIP", source.VIPName(addr), wrong.String()+": UDP: the reply lacks what is to be in it")
		for _, node := range everyNode { // a flow of UDP does not leave a backend of weight 0: it must be gone
			must(t, scenario.Until(within(t.Context(), t), func() error {
				text, err := s.Output(t.Context(), node, "ipvsadm", "-Ln")
				if err == nil && (strings.Contains(text, wrong.String()) || !strings.Contains(text, "UDP  "+netip.AddrPortFrom(addr, 53).String())) {
					err = fmt.Errorf("node %s has, of %s without %s:\n%s", node, addr, wrong, text)
				}
				return err
			}))
		}
	}
}

// TestAnHTTPSCheckGoesByTheCertificate: the pods have certificates of their own, for one name.
func TestAnHTTPSCheckGoesByTheCertificate(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	const name = "by-https"
	addresses := pair(t, s, name, 8080, "http:8080", "https:8443")
	var bundles []string
	for _, pod := range []string{name + "-1", name + "-2"} {
		to := netip.AddrPortFrom(nodeAddress(t, s, pod, true), 8443).String()
		out, err := s.Output(ctx, "n1", "sh", "-c", "openssl s_client -connect "+to+" </dev/null 2>/dev/null | openssl x509")
		must(t, err)
		bundles = append(bundles, out+"\n")
	}
	for _, check := range []struct {
		what string
		spec map[string]any
		want string
	}{
		{"without a look at the certificate", map[string]any{}, "2/2"},
		{"by an authority of one", map[string]any{"verifyCertificate": true, "host": pods.TLSName, "caBundle": bundles[0]}, "1/2"},
		{"by authorities of both", map[string]any{"verifyCertificate": true, "host": pods.TLSName, "caBundle": bundles[0] + bundles[1]}, "2/2"},
		{"for another name", map[string]any{"verifyCertificate": true, "host": "other.lab", "caBundle": bundles[0] + bundles[1]}, "0/2"},
		{"for a body", map[string]any{"host": pods.TLSName, "bodyContains": name + "-2 "}, "1/2"},
	} {
		check.spec["type"], check.spec["port"], check.spec["intervalSeconds"], check.spec["rise"], check.spec["fall"] = "HTTPS", 8443, 1, 1, 1
		text, err := json.Marshal(check.spec)
		must(t, err)
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{source.AnnotationHealthCheck: string(text)}}})
		must(t, err)
		_, err = s.Core.CoreV1().Services(scenario.Namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		must(t, err)
		t.Logf("checked %s: want %s", check.what, check.want)
		for _, addr := range addresses {
			wantBackends(t, s, addr, check.want)
		}
	}
	for _, addr := range addresses {
		for by := range answerers(t, s, "client", addr) {
			if by != name+"-2" {
				t.Errorf("%s is answered by %s, whose check fails", addr, by)
			}
		}
	}
}
