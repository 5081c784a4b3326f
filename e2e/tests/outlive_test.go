package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/load"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// TestConnectionsOutliveTheirHolder moves a VIP there and back under connections to nodes behind it.
func TestConnectionsOutliveTheirHolder(t *testing.T) {
	s, _ := connect(t)
	serve(t, s, "n3", "tcp:9000")
	for _, forwarding := range []v1alpha1.Forwarding{v1alpha1.ForwardMasquerade, v1alpha1.ForwardDirect, v1alpha1.ForwardTunnel} {
		t.Run(string(forwarding), func(t *testing.T) {
			poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) {
				spec.NodeSelector, spec.Forwarding = hosts("n1", "n2"), forwarding
				spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, NodeSelector: hosts("n3")}
			})
			addresses := webAs(t, s, "outlive-"+strings.ToLower(string(forwarding)), func(svc *corev1.Service) {
				svc.Spec.Ports = []corev1.ServicePort{{Name: "lines", Port: 9000, TargetPort: intstr.FromInt32(9000)}}
			})
			for _, addr := range addresses {
				listens(t, s, addr)
				var open []*conversation
				for _, host := range []string{"client", "far", "client", "far"} {
					c, _ := converse(t, s, host, addr, 9000)
					open = append(open, c)
				}
				for range 2 {
					moveAway(t, s, addr)
					for _, c := range open {
						if by := c.say(); by != "n3" {
							t.Errorf("%s was answered by %s in a connection to n3", addr, by)
						}
					}
				}
			}
		})
	}
}

// TestFiveHundredConnectionsOutliveTenMoves: connections to nodes behind two VIPs, half of them to each, on each of which a line is
// said every second, while both VIPs move to and fro.
func TestFiveHundredConnectionsOutliveTenMoves(t *testing.T) {
	const connections, moves = 500, 5 // of each VIP
	s, ctx := connect(t)
	serve(t, s, "n3", "tcp:9000")
	poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) {
		spec.NodeSelector = hosts("n1", "n2")
		spec.Backends = &v1alpha1.Backends{Kind: v1alpha1.BackendNodes, NodeSelector: hosts("n3")}
	})
	addresses := webAs(t, s, "many", func(svc *corev1.Service) {
		svc.Spec.Ports = []corev1.ServicePort{{Name: "lines", Port: 9000, TargetPort: intstr.FromInt32(9000)}}
	})
	var held []func() load.Result
	for _, addr := range addresses {
		listens(t, s, addr)
		held = append(held, holdOpen(t, s, addr, connections/len(addresses)))
	}
	for range moves {
		for _, addr := range addresses {
			from, _ := moveAway(t, s, addr)
			must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, from, addr) }))
		}
	}
	for i, end := range held {
		result := end()
		t.Logf("%s: %d connections, %d moves: %d broke; %d lines, p50 %.0f us, p99 %.0f us", addresses[i], connections/len(addresses), moves,
			result.Failed, result.Done, result.P50US, result.P99US)
		if result.Failed > 0 {
			t.Errorf("%s: %d connections broke", addresses[i], result.Failed)
		}
	}
}

// holdOpen opens connections to port 9000 of an address and says a line on each every second, until it is told to end and give
// account.
func holdOpen(t *testing.T, s *scenario.Scenario, addr netip.Addr, connections int) (end func() load.Result) {
	t.Helper()
	ctx := within(t.Context(), t)
	signals, ended := make(chan os.Signal, 1), make(chan error, 1)
	var out bytes.Buffer
	go func() {
		ended <- s.Exec(context.WithoutCancel(ctx), "client", cluster.Stdio{Out: &out, Signals: signals}, "lab", "load",
			"--measure", string(load.Hold), "--connections", fmt.Sprint(connections), "--for", "5m", netip.AddrPortFrom(addr, 9000).String())
	}()
	to := netip.AddrPortFrom(addr, 9000).String()
	must(t, scenario.Until(ctx, func() error {
		out, err := s.Output(ctx, "client", "ss", "-Hnt", "state", "established")
		open := 0
		for _, field := range strings.Fields(out) {
			if field == to {
				open++
			}
		}
		if err == nil && open < connections {
			err = fmt.Errorf("%d connections to %s are open", open, to)
		}
		return err
	}))
	return func() (result load.Result) {
		signals <- syscall.SIGTERM
		must(t, <-ended)
		must(t, json.Unmarshal(out.Bytes(), &result))
		return result
	}
}

// listens waits until an address takes a connection and says a line.
func listens(t *testing.T, s *scenario.Scenario, addr netip.Addr) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		_, err := s.Output(ctx, "client", "bash", "-c", fmt.Sprintf("timeout 1 bash -c 'exec 3<>/dev/tcp/%s/9000; echo >&3; read <&3'", addr))
		return err
	}))
}
