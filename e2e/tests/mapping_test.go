package tests

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/controller"
	"github.com/fairlead/fairlead/pkg/source"
)

// internal makes a dual-stack Service of type ClusterIP with a pod.
func internal(t *testing.T, s *scenario.Scenario, name string) {
	t.Helper()
	must(t, s.AddWebPods(t.Context(), name, "n1"))
	temporaryService(t, s, name, func(service *corev1.Service) { service.Spec.Type = corev1.ServiceTypeClusterIP })
	t.Cleanup(func() { must(t, s.DeletePod(context.Background(), name+"-1")) })
}

// mapAddresses makes a ConfigMap of the product's namespace say what its data is.
func mapAddresses(t *testing.T, s *scenario.Scenario, name string, labels, data map[string]string) {
	t.Helper()
	ctx := t.Context()
	maps := s.Core.CoreV1().ConfigMaps(scenario.SystemNamespace)
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: data}
	if _, err := maps.Update(ctx, object, metav1.UpdateOptions{}); err == nil {
		return
	}
	_, err := maps.Create(ctx, object, metav1.CreateOptions{})
	must(t, err)
}

func TestAConfigMapMapsAddressesToServices(t *testing.T) {
	s, ctx := connect(t)
	internal(t, s, "mapped-a")
	internal(t, s, "mapped-b")
	v4, v6 := netip.MustParseAddr("10.87.110.5"), netip.MustParseAddr("fd87::110:5")
	alone, moved := netip.MustParseAddr("10.87.110.6"), netip.MustParseAddr("10.87.110.7")
	const name = "fairlead-vips"
	mapAddresses(t, s, name, nil, map[string]string{
		v4.String(): "default/mapped-a", source.VIPName(v6): "default/mapped-a:NAT", alone.String(): "",
	})
	for _, addr := range []netip.Addr{v4, v6} {
		if by := answers(t, s, "client", addr, 80); by[:8] != "mapped-a" {
			t.Errorf("%s is answered by %s", addr, by)
		}
	}
	must(t, scenario.Until(within(ctx, t), func() error { // bound, and nothing else
		_, err := s.Output(ctx, "client", "ping", "-c", "1", "-W", "1", alone.String())
		return err
	}))

	started := time.Now()
	mapAddresses(t, s, name, nil, map[string]string{
		v4.String(): "default/mapped-b", "by-value": fmt.Sprintf("%s=default/mapped-a, %s=default/mapped-b", v6, moved), "10.87.110.500": "default/mapped-a",
	})
	must(t, scenario.Until(within(ctx, t), func() error {
		by, err := s.Output(ctx, "client", "curl", "-s", "--max-time", "1", scenario.URL(v4, 80))
		if err == nil && by[:8] != "mapped-b" {
			return fmt.Errorf("%s is answered by %s", v4, by)
		}
		return err
	}))
	t.Logf("a live edit answered after %v", time.Since(started))
	answers(t, s, "client", v6, 80)
	answers(t, s, "client", moved, 80)
	must(t, s.Gone(within(ctx, t), alone))
	event(t, s, "ConfigMap", name, `key "10.87.110.500"`, "write an IPv4 address")

	must(t, s.Core.CoreV1().ConfigMaps(scenario.SystemNamespace).Delete(ctx, name, metav1.DeleteOptions{}))
	must(t, s.Gone(within(ctx, t), v4, v6, moved))
}

// TestAMappedAddressOutlivesItsService sees the VIP stay up without its Service, and a ConfigMap that a label selects.
func TestAMappedAddressOutlivesItsService(t *testing.T) {
	s, ctx := connect(t)
	addr := netip.MustParseAddr("10.87.111.5")
	mapAddresses(t, s, "more-vips", map[string]string{"fairlead.dev/vips": "true"}, map[string]string{addr.String(): "default/outlived"})
	wantVIP(t, s, addr.String(), v1alpha1.VIPMapped, "False NotAsMapped", "Service default/outlived does not exist: create it")
	event(t, s, "ConfigMap", "more-vips", "Service default/outlived does not exist")
	t.Run("with its Service", func(t *testing.T) {
		internal(t, s, "outlived")
		answers(t, s, "client", addr, 80)
		wantVIP(t, s, addr.String(), v1alpha1.VIPMapped, "True "+controller.ReasonMapped)
	})
	wantVIP(t, s, addr.String(), v1alpha1.VIPMapped, "False NotAsMapped")
	must(t, scenario.Until(within(ctx, t), func() error {
		_, err := s.Output(ctx, "client", "ping", "-c", "1", "-W", "1", addr.String())
		return err
	}))
	must(t, s.Core.CoreV1().ConfigMaps(scenario.SystemNamespace).Delete(ctx, "more-vips", metav1.DeleteOptions{}))
	must(t, s.Gone(within(ctx, t), addr))
}
