package tests

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

// squatter is a host on the LAN that is not the cluster's.
const squatter = "router"

// squat gives an address to a host that is not the cluster's, which says nothing of it until it is asked.
func squat(t *testing.T, s *scenario.Scenario, addr netip.Addr) {
	t.Helper()
	command := []string{"ip", "addr", "add", netip.PrefixFrom(addr, addr.BitLen()).String(), "dev", "eth0"}
	if addr.Is6() {
		command = append(command, "nodad")
	}
	_, err := s.Output(t.Context(), squatter, command...)
	must(t, err)
}

func leave(t *testing.T, s *scenario.Scenario, addr netip.Addr) {
	t.Helper()
	_, err := s.Output(context.Background(), squatter, "ip", "addr", "del", netip.PrefixFrom(addr, addr.BitLen()).String(), "dev", "eth0")
	must(t, err)
}

// contested waits until a VIP's conditions tell of a conflict with a host, and returns them.
func contested(t *testing.T, s *scenario.Scenario, addr netip.Addr, mac string) *v1alpha1.VIP {
	t.Helper()
	ctx := within(t.Context(), t)
	var vip *v1alpha1.VIP
	must(t, scenario.Until(ctx, func() (err error) {
		if vip, err = s.VIP(ctx, addr); err != nil {
			return err
		}
		condition := meta.FindStatusCondition(vip.Status.Conditions, v1alpha1.VIPConflict)
		if condition == nil || condition.Status != metav1.ConditionTrue || !strings.Contains(condition.Message, mac) {
			return fmt.Errorf("VIP %s does not tell of host %s: %+v", addr, mac, vip.Status.Conditions)
		}
		return nil
	}))
	return vip
}

func TestAnAddressThatAnotherHostHasIsNotAnnouncedUntilItIsFree(t *testing.T) {
	s, ctx := connect(t)
	addresses := []netip.Addr{netip.MustParseAddr("10.87.250.1"), netip.MustParseAddr("fd87::250:1")}
	_, err := s.CreatePool(ctx, "contested", "10.87.250.1/32", "fd87::250:1/128")
	must(t, err)
	t.Cleanup(func() {
		must(t, s.Fairlead.FairleadV1alpha1().IPPools().Delete(context.Background(), "contested", metav1.DeleteOptions{}))
	})
	mac, err := s.Output(ctx, squatter, "cat", "/sys/class/net/eth0/address")
	must(t, err)
	for _, addr := range addresses {
		squat(t, s, addr)
	}
	if got := web(t, s, "contested", "n1", "n2"); !slices.Equal(got, addresses) {
		t.Fatalf("the Service has %v, want %v", got, addresses)
	}
	nodes, err := s.Nodes(ctx)
	must(t, err)
	for _, addr := range addresses {
		vip := contested(t, s, addr, mac)
		held := meta.FindStatusCondition(vip.Status.Conditions, v1alpha1.VIPHeld)
		if vip.Status.Node != "" || held == nil || held.Reason != v1alpha1.VIPReasonConflict || !strings.Contains(held.Message, mac) {
			t.Errorf("VIP %s is held by %q: %+v", addr, vip.Status.Node, held)
		}
		event(t, s, "VIP", vip.Name, mac, "not announced")
		for _, node := range nodes {
			must(t, notBound(ctx, s, node, addr))
		}
	}
	for _, addr := range addresses {
		leave(t, s, addr)
	}
	for _, addr := range addresses {
		node, err := s.Holder(within(ctx, t), addr, "")
		must(t, err)
		t.Logf("%s is free, and held by %s", addr, node)
		answers(t, s, "client", addr, 80)
	}
}

func TestAnAddressThatAnotherHostTakesWhileItIsHeldIsToldOfAndKept(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	mac, err := s.Output(ctx, squatter, "cat", "/sys/class/net/eth0/address")
	must(t, err)
	addresses := web(t, s, "taken", "n1", "n2")
	holders := map[netip.Addr]string{}
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
		holders[addr], err = s.Holder(within(ctx, t), addr, "")
		must(t, err)
	}
	time.Sleep(15 * time.Second) // one that turns up earlier is held to have been there before
	for _, addr := range addresses {
		squat(t, s, addr)
	}
	for _, addr := range addresses {
		vip := contested(t, s, addr, mac)
		if vip.Status.Node != holders[addr] || !meta.IsStatusConditionTrue(vip.Status.Conditions, v1alpha1.VIPHeld) {
			t.Errorf("VIP %s moved from %s to %q: %+v", addr, holders[addr], vip.Status.Node, vip.Status.Conditions)
		}
		event(t, s, "VIP", vip.Name, mac, "defended")
		leave(t, s, addr)
	}
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
		vip, err := s.VIP(within(ctx, t), addr)
		must(t, err)
		if vip.Status.Node != holders[addr] {
			t.Errorf("VIP %s moved from %s to %q", addr, holders[addr], vip.Status.Node)
		}
	}
}
