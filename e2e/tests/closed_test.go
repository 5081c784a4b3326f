package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/scan"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// scanned is what a client finds at an address, given the flags of lab scan.
func scanned(t *testing.T, s *scenario.Scenario, addr netip.Addr, flags ...string) scan.Result {
	t.Helper()
	out, err := s.Output(t.Context(), "client", append(append([]string{"lab", "scan"}, flags...), addr.String())...)
	must(t, err)
	var result scan.Result
	must(t, json.Unmarshal([]byte(out), &result))
	if result.Failed > 0 {
		t.Errorf("%d ports of %s could not be asked: %s", result.Failed, addr, result.Error)
	}
	return result
}

// TestAPortScanFindsOnlyTheFrontends: what listens on every address of the holder, as sshd and the kubelet do, and the
// NodePorts of Services are found at the node's own address, and not at the VIP.
func TestAPortScanFindsOnlyTheFrontends(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := everyProtocol(t, s, "scanned", "n1")
	temporaryService(t, s, "other", func(service *corev1.Service) {
		service.Spec.Type = corev1.ServiceTypeNodePort
		service.Spec.Selector = map[string]string{"app": "scanned"}
	})
	other, err := s.Core.CoreV1().Services(scenario.Namespace).Get(ctx, "other", metav1.GetOptions{})
	must(t, err)
	const sshd, kubelet, speaker, datagrams = 22, 10250, 7473, 10255
	const patient = "10s"
	nodePort := uint16(other.Spec.Ports[0].NodePort)
	listening := map[string]bool{}
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
		holder, err := s.Holder(within(ctx, t), addr, "")
		must(t, err)
		if !listening[holder] {
			listening[holder] = true
			for _, listen := range []string{"tcp:22", "tcp:10250", "udp:10255"} {
				serve(t, s, holder, listen)
			}
		}
		own := nodeAddress(t, s, holder, addr.Is4())
		answers(t, s, "client", own, int(nodePort))
		tcp := []uint16{sshd, speaker, kubelet, nodePort}
		found := scanned(t, s, own, "--timeout", patient, "--ports", numbers(tcp))
		if want := slices.Sorted(slices.Values(tcp)); !slices.Equal(found.Open, want) {
			t.Fatalf("at node %s's own address %s are open %v, not %v", holder, own, found.Open, want)
		}
		found = scanned(t, s, own, "--timeout", patient, "--protocol", "udp", "--ports", numbers([]uint16{datagrams}))
		if len(found.Open) != 1 {
			t.Fatalf("UDP port %d of %s is not open", datagrams, own)
		}

		started := time.Now()
		found = scanned(t, s, addr)
		t.Logf("%s: of 65535 TCP ports open are %v, %d refused, %d silent, in %v", addr, found.Open, found.Refused, found.Silent,
			time.Since(started).Round(100*time.Millisecond))
		// Among tens of thousands of connections an open port may be late: that only these are open is what the scan says.
		want := []uint16{80, 9000}
		if slices.ContainsFunc(found.Open, func(port uint16) bool { return !slices.Contains(want, port) }) {
			t.Errorf("TCP ports %v of VIP %s are open, not %v alone", found.Open, addr, want)
		}
		if found = scanned(t, s, addr, "--timeout", patient, "--ports", numbers(want)); !slices.Equal(found.Open, want) {
			t.Errorf("TCP ports %v of VIP %s are open, not %v", found.Open, addr, want)
		}
		found = scanned(t, s, addr, "--timeout", patient, "--protocol", "udp",
			"--ports", numbers([]uint16{53, 123, 161, 9000, datagrams, nodePort}))
		if want := []uint16{9000}; !slices.Equal(found.Open, want) {
			t.Errorf("UDP ports %v of VIP %s are open, not %v", found.Open, addr, want)
		}
		if _, err := s.Output(ctx, "client", "ping", "-c", "2", "-W", "2", addr.String()); err != nil {
			t.Errorf("VIP %s does not answer a ping: %v", addr, err)
		}
	}
}

// numbers is a list of ports as lab scan reads it.
func numbers(ports []uint16) string {
	var out []string
	for _, port := range ports {
		out = append(out, strconv.Itoa(int(port)))
	}
	return strings.Join(out, ",")
}

// ranges are prefixes, 8 times count of each family from one of two disjoint lots and those given.
func ranges(lot, count byte, more ...string) []string {
	for i := range count {
		for j := range byte(8) {
			v4 := netip.AddrFrom4([4]byte{100, 64 + lot, i, j << 4})
			v6 := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, lot + 1, i, j})
			more = append(more, netip.PrefixFrom(v4, 28).String(), netip.PrefixFrom(v6, 64).String())
		}
	}
	return more
}

// TestAChangeOfSourceRangesLeavesNoMomentOpen changes a thousand prefixes to and fro, with make soak three times as many. The client
// on the LAN is in them all the time, the one behind the router never, and the router, by which the test sees that a change has
// come, every other time.
func TestAChangeOfSourceRangesLeavesNoMomentOpen(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	addresses := web(t, s, "changing", "n1", "n2")
	set := func(ranges []string) {
		t.Helper()
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"loadBalancerSourceRanges": ranges}})
		must(t, err)
		_, err = s.Core.CoreV1().Services(scenario.Namespace).Patch(ctx, "changing", types.MergePatchType, patch, metav1.PatchOptions{})
		must(t, err)
	}
	reaches := func(host string, want bool) {
		t.Helper()
		must(t, scenario.Until(within(ctx, t), func() error {
			for _, addr := range addresses {
				out, err := s.Output(ctx, host, "curl", "-s", "--max-time", "1", scenario.URL(addr, 80))
				if (err == nil) != want {
					return fmt.Errorf("%s asked %s and got %q, %w", host, addr, out, err)
				}
			}
			return nil
		}))
	}
	count := byte(63) // times 8 and two families: more, and the programs nft of three nodes leave a guest no processor
	if os.Getenv(strictly) != "" {
		count = 200
	}
	client, router := []string{"10.87.1.1/32", "fd87::1:1/128"}, []string{"10.87.254.1/32", "fd87::fe:1/128"}
	narrow, wide := ranges(0, count, client...), ranges(1, count, append(client, router...)...)
	set(narrow)
	reaches("far", false)
	reaches("router", false)
	reaches("client", true)

	inside, err := s.Probe(ctx, "client", cluster.ProbeOptions{Timeout: 5 * time.Second}, urls(addresses)...)
	must(t, err)
	outside, err := s.Probe(ctx, "far", cluster.ProbeOptions{}, urls(addresses)...)
	must(t, err)
	for i := range 10 {
		set([][]string{wide, narrow}[i%2])
		reaches("router", i%2 == 0)
	}
	summaries, err := outside.Stop()
	must(t, err)
	for _, seen := range summaries {
		if seen.Answered > 0 || seen.Sent == 0 {
			t.Errorf("%s answered a client outside of its source ranges %d of %d times", seen.URL, seen.Answered, seen.Sent)
		}
	}
	summaries, err = inside.Stop()
	must(t, err)
	flawless(t, func() (failed error) {
		for _, seen := range summaries {
			t.Logf("%s: with %d prefixes, then %d, %d of %d requests failed", seen.URL, len(narrow), len(wide), seen.Failed, seen.Sent)
			failed = errors.Join(failed, flaw(seen))
		}
		return failed
	})
}
