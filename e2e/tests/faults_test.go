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
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/load"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// TestANodeThatIsOutOfReachLosesItsAddress: what comes between it and its clients, the other speakers or the API server.
func TestANodeThatIsOutOfReachLosesItsAddress(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	for i, test := range []struct {
		name   string
		faults []cluster.FaultKind
	}{
		{"cut from the LAN, not from the API server", []cluster.FaultKind{cluster.CutLAN}},
		{"cut from both", []cluster.FaultKind{cluster.CutLAN, cluster.CutAPI}},
		{"nobody hears it", []cluster.FaultKind{cluster.CutSending}},
		{"it hears nobody", []cluster.FaultKind{cluster.CutReceiving}},
		{"its cable is pulled", []cluster.FaultKind{cluster.CutCarrier}},
	} {
		t.Run(test.name, func(t *testing.T) {
			addr := apart(t, s, fmt.Sprintf("unheard-%d", i))[i%2]
			node, _ := strike(t, s, test.faults[0], addr, test.faults[1:]...)
			must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, node, addr) }))
			must(t, s.Fault(ctx, cluster.Heal, node))
			must(t, scenario.Until(within(ctx, t), func() error { return living(ctx, s, node) }))
			must(t, scenario.Until(within(ctx, t), func() error { return oneHolder(ctx, s, addr) }))
			answers(t, s, "client", addr, 80)
		})
	}
}

// TestANodeThatComesBackLateGivesUpWhatItStillHas: as a machine that stood still does, whose kernel kept the addresses.
func TestANodeThatComesBackLateGivesUpWhatItStillHas(t *testing.T) {
	s, ctx := connect(t)
	if isolated(t, s) {
		t.Skip("an isolated datapath has no addresses that a node could have kept")
	}
	pool(t, s)
	addresses := apart(t, s, "late")
	for _, addr := range addresses {
		node, _ := strike(t, s, cluster.FreezeSpeaker, addr, cluster.CutLAN, cluster.CutAPI)
		must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, node, addr) }))
		kept := []string{"ip", "addr", "add", netip.PrefixFrom(addr, addr.BitLen()).String(), "dev", "eth0"}
		if addr.Is6() {
			kept = append(kept, "nodad")
		}
		_, err := s.Output(ctx, node, kept...)
		must(t, err)
		time.Sleep(20 * time.Second) // longer than anybody waits for it
		holder, err := s.Holder(within(ctx, t), addr, node)
		must(t, err)
		must(t, s.Fault(ctx, cluster.Heal, node)) // and its speaker finds itself years later
		must(t, scenario.Until(within(ctx, t), func() error { return notBound(ctx, s, node, addr) }))
		must(t, scenario.Until(within(ctx, t), func() error { return living(ctx, s, node) }))
		if now, err := s.Holder(within(ctx, t), addr, ""); err != nil || now != holder {
			t.Errorf("%s was held by %s, and is by %s after node %s came back: %v", addr, holder, now, node, err)
		}
		must(t, oneHolder(ctx, s, addr))
		answers(t, s, "client", addr, 80)
	}
}

// TestASlowStoreMovesNothing: every write of the API server takes up to two seconds.
func TestASlowStoreMovesNothing(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := web(t, s, "slow-store", "n1", "n2")
	flawless(t, func() error {
		w := keepAsking(t, s, addresses)
		must(t, s.Fault(ctx, cluster.SlowStore, ""))
		defer func() { must(t, s.Fault(context.WithoutCancel(ctx), cluster.QuickStore, "")) }()
		time.Sleep(30 * time.Second)
		return w.flaws()
	})
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
}

// TestClocksThatJumpMoveNothing: those of all nodes, three hours ahead of the API server's and back.
func TestClocksThatJumpMoveNothing(t *testing.T) {
	s, ctx := connect(t)
	processor, err := s.Output(ctx, "n1", "cat", "/proc/cpuinfo")
	must(t, err)
	if !strings.Contains(processor, "User Mode Linux") {
		t.Skip("the nodes' clock is this machine's, which is nobody's to set")
	}
	pool(t, s)
	addresses := web(t, s, "clock", "n1", "n2")
	jump := func(hours int) {
		_, err := s.Output(context.WithoutCancel(ctx), "n1", "sh", "-c", fmt.Sprintf("date --set=@$(($(date +%%s) + %d))", hours*3600))
		must(t, err)
	}
	flawless(t, func() error {
		w := keepAsking(t, s, addresses)
		jump(3)
		time.Sleep(8 * time.Second)
		jump(-3)
		time.Sleep(8 * time.Second)
		return w.flaws()
	})
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
}

// TestFiveHundredConnectionsOutliveTenMoves: connections to nodes behind two VIPs, half of them to each, on each of which a line is
// said every second, while both VIPs move to and fro.
func TestFiveHundredConnectionsOutliveTenMoves(t *testing.T) {
	const connections, moves = 500, 5 // of each VIP
	s, ctx := connect(t)
	serve(t, s, "n3", "tcp:9000")
	hosts := func(names ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "kubernetes.io/hostname", Operator: "In", Values: names}}}
	}
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

// holdOpen opens connections to port 9000 of an address and says a line on each every second, until it is told to end and give account.
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
