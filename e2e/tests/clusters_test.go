package tests

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// askedAgain is longer than a speaker takes to ask two times more for an address that another host has.
const askedAgain = 27 * time.Second

// rival is one of two clusters on a LAN that have the same pool.
type rival struct {
	*scenario.Scenario
	name  string
	nodes []string
	macs  map[string]string // of its nodes
	other *rival
}

// rivals starts a second cluster with two nodes beside the lab's, and gives both a pool of the same two addresses.
func rivals(t *testing.T) (addresses []netip.Addr, first, second *rival) {
	t.Helper()
	s, ctx := connect(t)
	addresses = []netip.Addr{netip.MustParseAddr("10.87.251.1"), netip.MustParseAddr("fd87::251:1")}
	beside, err := s.AddSecond(ctx, 2)
	must(t, err)
	t.Cleanup(func() { must(t, s.DeleteSecond(context.Background())) })
	other, err := scenario.New(beside)
	must(t, err)
	first, second = &rival{Scenario: s, name: "first"}, &rival{Scenario: other, name: "second"}
	first.other, second.other = second, first
	for _, r := range []*rival{first, second} {
		r.nodes, err = r.Nodes(ctx)
		must(t, err)
		r.macs = map[string]string{}
		for _, node := range r.nodes {
			r.macs[node], err = r.Output(ctx, node, "cat", "/sys/class/net/eth0/address")
			must(t, err)
		}
		temporaryPool(t, r.Scenario, "shared", nil, "10.87.251.1/32", "fd87::251:1/128")
	}
	return addresses, first, second
}

// prepare makes a pod for a Service that is named after the cluster. What becomes of the Service ends with the test.
func (r *rival) prepare(t *testing.T, addresses []netip.Addr) {
	t.Helper()
	must(t, r.AddWebPods(t.Context(), r.name, r.nodes[0]))
	t.Cleanup(func() {
		r.withdraw(t, addresses)
		must(t, r.DeletePod(context.Background(), r.name+"-1"))
	})
}

// serves makes the Service, which is to get these addresses.
func (r *rival) serves(t *testing.T, addresses []netip.Addr) {
	t.Helper()
	r.prepare(t, addresses)
	ctx := within(t.Context(), t)
	_, err := r.CreateService(ctx, scenario.Service(r.name))
	must(t, err)
	got, err := r.Addresses(ctx, r.name, len(addresses))
	must(t, err)
	if !slices.Equal(got, addresses) {
		t.Fatalf("the %s cluster's Service has %v, want %v", r.name, got, addresses)
	}
}

// withdraw deletes the Service, if there is one.
func (r *rival) withdraw(t *testing.T, addresses []netip.Addr) {
	t.Helper()
	ctx := within(context.Background(), t)
	err := r.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, r.name, metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) {
		must(t, err)
	}
	must(t, r.Gone(ctx, addresses...))
}

// wins waits until the cluster holds an address on one node, the other on none, and the cluster's pod answers.
func (r *rival) wins(t *testing.T, addr netip.Addr) (node string) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		if err := oneHolder(ctx, r.Scenario, addr); err != nil {
			return err
		}
		for _, node := range r.other.nodes {
			if err := notBound(ctx, r.Scenario, node, addr); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, scenario.Until(ctx, func() error { // a client that did not hear of it yet asks the node that had it
		by, err := r.Output(ctx, "client", "curl", "-s", "--max-time", "1", scenario.URL(addr, 80))
		if err == nil && !strings.HasPrefix(by, r.name+"-") {
			err = fmt.Errorf("%s, which the %s cluster holds, is answered by %q", addr, r.name, by)
		}
		return err
	}))
	node, err := r.Holder(ctx, addr, "")
	must(t, err)
	return node
}

// givesWay waits until the cluster tells by all its means that it leaves an address to a node of the other one.
func (r *rival) givesWay(t *testing.T, addr netip.Addr, node string) {
	t.Helper()
	mac := r.other.macs[node]
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		vip, err := r.VIP(ctx, addr)
		if err != nil {
			return err
		}
		held := meta.FindStatusCondition(vip.Status.Conditions, v1alpha1.VIPHeld)
		refused := held != nil && held.Reason == v1alpha1.VIPReasonConflict && strings.Contains(held.Message, mac)
		if vip.Status.Node != "" || !refused || !meta.IsStatusConditionTrue(vip.Status.Conditions, v1alpha1.VIPConflict) {
			return fmt.Errorf("VIP %s of the %s cluster is held by %q: %+v", addr, r.name, vip.Status.Node, vip.Status.Conditions)
		}
		return nil
	}))
	event(t, r.Scenario, "VIP", source.VIPName(addr), mac, "not announced")
	conflicts := 0
	for _, node := range r.nodes {
		conflicts += metric(t, r.Scenario, node, "fairlead_speaker_address_conflicts")
	}
	if conflicts == 0 {
		t.Errorf("no node of the %s cluster has a conflict by its metrics", r.name)
	}
}

// alone plays something during which nobody but the cluster's nodes may announce addresses, as the client hears it.
func (r *rival) alone(t *testing.T, addresses []netip.Addr, play func()) {
	t.Helper()
	stop, err := r.Hear(t.Context(), "client")
	must(t, err)
	play()
	heard, err := stop()
	must(t, err)
	for _, addr := range addresses {
		count := map[string]int{}
		for _, a := range heard {
			if a.Addr == addr {
				count[a.MAC]++
			}
		}
		own := 0
		for _, mac := range r.macs {
			own += count[mac]
			delete(count, mac)
		}
		t.Logf("%s: announced %d times by the %s cluster", addr, own, r.name)
		if own == 0 || len(count) > 0 {
			t.Errorf("%s was announced %d times by the %s cluster, by others: %v", addr, own, r.name, count)
		}
	}
}

// notices waits until the cluster that holds an address tells that a node of the other one asks for it.
func (r *rival) notices(t *testing.T, addr netip.Addr) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		vip, err := r.VIP(ctx, addr)
		if err != nil {
			return err
		}
		condition := meta.FindStatusCondition(vip.Status.Conditions, v1alpha1.VIPConflict)
		for _, mac := range r.other.macs {
			if condition != nil && strings.Contains(condition.Message, "host "+mac+" asks for it") {
				return nil
			}
		}
		return fmt.Errorf("VIP %s does not tell that another cluster asks for it: %+v", addr, condition)
	}))
}

// noConflict returns nil if a VIP had a conflict that is over.
func noConflict(ctx context.Context, s *scenario.Scenario, addr netip.Addr) error {
	vip, err := s.VIP(ctx, addr)
	if err == nil && !meta.IsStatusConditionFalse(vip.Status.Conditions, v1alpha1.VIPConflict) {
		err = fmt.Errorf("VIP %s still tells of a conflict: %+v", addr, vip.Status.Conditions)
	}
	return err
}

// TestTwoClustersWithOnePoolDoNotFight: both have a Service, and for both there are only the same two addresses.
func TestTwoClustersWithOnePoolDoNotFight(t *testing.T) {
	addresses, first, second := rivals(t)
	first.serves(t, addresses)
	flawless(t, func() error {
		w := keepAsking(t, first.Scenario, addresses)
		first.alone(t, addresses, func() {
			second.serves(t, addresses)
			for _, addr := range addresses {
				second.givesWay(t, addr, w.held[addr])
				first.notices(t, addr)
			}
			time.Sleep(askedAgain)
		})
		return w.flaws()
	})
	first.alone(t, addresses, func() {
		for _, addr := range addresses {
			node, _ := strike(t, first.Scenario, cluster.KillSpeaker, addr)
			must(t, first.Fault(t.Context(), cluster.StartSpeaker, node))
		}
		time.Sleep(askedAgain)
		for _, addr := range addresses {
			second.givesWay(t, addr, first.wins(t, addr))
		}
	})
	first.withdraw(t, addresses)
	second.alone(t, addresses, func() {
		for _, addr := range addresses {
			second.wins(t, addr)
			must(t, scenario.Until(within(t.Context(), t), func() error { return noConflict(t.Context(), second.Scenario, addr) }))
		}
	})
}

// TestAClusterThatWasGoneFindsItsAddressesTaken: while none of its speakers lived, the other cluster took them.
func TestAClusterThatWasGoneFindsItsAddressesTaken(t *testing.T) {
	addresses, first, second := rivals(t)
	first.serves(t, addresses)
	for _, addr := range addresses {
		node := first.wins(t, addr)
		if addr == addresses[0] {
			second.serves(t, addresses)
		}
		second.givesWay(t, addr, node)
	}
	for _, node := range first.nodes {
		must(t, first.Fault(t.Context(), cluster.KillSpeaker, node))
	}
	for _, addr := range addresses {
		second.wins(t, addr)
	}
	second.alone(t, addresses, func() {
		for _, node := range first.nodes {
			must(t, first.Fault(t.Context(), cluster.StartSpeaker, node))
		}
		for _, addr := range addresses {
			first.givesWay(t, addr, second.wins(t, addr))
		}
		time.Sleep(askedAgain)
	})
	for _, addr := range addresses {
		first.givesWay(t, addr, second.wins(t, addr))
	}
}

// TestTwoClustersThatWantAnAddressAtOnceAgree: both ask for it before either has it.
func TestTwoClustersThatWantAnAddressAtOnceAgree(t *testing.T) {
	addresses, first, second := rivals(t)
	for _, r := range []*rival{first, second} {
		r.prepare(t, addresses)
	}
	for _, r := range []*rival{first, second} {
		_, err := r.CreateService(t.Context(), scenario.Service(r.name))
		must(t, err)
	}
	began := time.Now()
	for _, addr := range addresses {
		winner, node := settled(t, addr, first, second)
		t.Logf("%s is held by node %s of the %s cluster after %.0f s", addr, node, winner.name, time.Since(began).Seconds())
		winner.other.givesWay(t, addr, winner.wins(t, addr))
	}
}

// settled waits until one of two clusters holds an address, on the node that it returns, and the other refuses it. They may have
// met several times until then.
func settled(t *testing.T, addr netip.Addr, first, second *rival) (winner *rival, node string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	must(t, scenario.Until(ctx, func() error {
		for _, r := range []*rival{first, second} {
			vip, err := r.VIP(ctx, addr)
			if err != nil {
				return err
			}
			other, err := r.other.VIP(ctx, addr)
			if err != nil {
				return err
			}
			held := meta.FindStatusCondition(other.Status.Conditions, v1alpha1.VIPHeld)
			if vip.Status.Node != "" && held != nil && held.Reason == v1alpha1.VIPReasonConflict {
				winner, node = r, vip.Status.Node
				return nil
			}
		}
		return fmt.Errorf("neither cluster holds %s while the other refuses it", addr)
	}))
	return winner, node
}
