package tests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// TestFlowsLeaveAPodThatTerminatesAtOnce: IPVS would lead those of UDP and SCTP on to it, weight 0 or not, while it answers them.
// What is seen is that it answers still and they are led to another.
func TestFlowsLeaveAPodThatTerminatesAtOnce(t *testing.T) {
	s, ctx := connect(t)
	poolWith(t, s, func(spec *v1alpha1.IPPoolSpec) { spec.DrainSeconds = new(int32(3600)) })
	addresses := everyProtocol(t, s, "moving", "n1", "n2")
	leaves, stays := "moving-1", "moving-2"
	var flows []*flow
	for _, addr := range addresses {
		for _, protocol := range []string{"udp", "sctp"} {
			from := 20000 + uint16(portsOfAFlow*len(flows))
			flows = append(flows, flowTo(t, s, protocol, from, netip.AddrPortFrom(addr, 9000), leaves))
		}
	}
	must(t, s.TerminatePod(ctx, leaves))
	for _, f := range flows {
		f.wantMoved(t, s, stays)
	}
	for _, addr := range addresses {
		pod := nodeAddress(t, s, leaves, addr.Is4())
		for _, node := range everyNode {
			must(t, scenario.Until(within(ctx, t), func() error { return leadsNothing(ctx, s, node, addr, pod) }))
		}
	}
}

// leadsNothing returns nil if a node has no connection through a VIP to a pod, neither in IPVS nor in conntrack.
func leadsNothing(ctx context.Context, s *scenario.Scenario, node string, vip, pod netip.Addr) error {
	entries, err := s.Output(ctx, node, "sh", "-c",
		scenario.Everywhere("for family in ipv4 ipv6; do conntrack -L -f $family; done 2>&-; ipvsadm -Lnc"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(entries) {
		if scenario.Mentions(line, vip) && scenario.Mentions(line, pod) {
			return fmt.Errorf("node %s leads a flow of %s to a pod that terminates: %s", node, vip, line)
		}
	}
	return nil
}

// flow is a client's with one port of its own, which is what a scheduler goes by.
type flow struct {
	protocol string
	from     uint16
	to       netip.AddrPort
	*conversation
}

// portsOfAFlow are tried, of which each of two servers gets a half, more or less.
const portsOfAFlow = 32

// flowTo looks for a port of the client, from the one given on, from which a server is reached.
func flowTo(t *testing.T, s *scenario.Scenario, protocol string, from uint16, to netip.AddrPort, server string) *flow {
	t.Helper()
	seen := map[string]int{}
	for port := range uint16(portsOfAFlow) {
		f := &flow{protocol: protocol, from: from + port, to: to}
		var by string
		if f.conversation, by = converseBy(t, s, "client", protocol, f.from, to); by == server {
			return f
		}
		f.end()
		seen[by]++
	}
	t.Fatalf("%s %s is answered by %v, never by %s", protocol, to, seen, server)
	return nil
}

// wantMoved waits until the flow has left the server that it had: datagrams reach the other one, an association ends, of which
// no other knows, and the next one from the same port is with the other.
func (f *flow) wantMoved(t *testing.T, s *scenario.Scenario, server string) {
	t.Helper()
	must(t, scenario.Until(within(t.Context(), t), func() error {
		by, err := f.ask()
		if f.protocol == "sctp" && errors.As(err, new(*cluster.ExitError)) {
			t.Logf("SCTP %s: %v", f.to, err)
			return nil
		}
		if err == nil && by != server {
			err = fmt.Errorf("%s %s is answered by %s, not by %s", f.protocol, f.to, by, server)
		}
		return err
	}))
	f.end()
	if _, by := converseBy(t, s, "client", f.protocol, f.from, f.to); by != server {
		t.Errorf("%s %s from the port it had before is answered by %s, not by %s", f.protocol, f.to, by, server)
	}
}
