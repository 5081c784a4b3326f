package tests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/controller"
	"github.com/fairlead/fairlead/pkg/convert"
	"github.com/fairlead/fairlead/pkg/source"
)

func annotate(key, value string) func(*corev1.Service) {
	return func(service *corev1.Service) {
		if service.Annotations == nil {
			service.Annotations = map[string]string{}
		}
		service.Annotations[key] = value
	}
}

// wantService waits until the condition of a Service has all parts, as "status reason: message".
func wantService(t *testing.T, s *scenario.Scenario, name string, parts ...string) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		service, err := s.Core.CoreV1().Services(scenario.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return has(service.Status.Conditions, controller.ServiceAllocated, parts)
	}))
}

// wantVIP waits until a condition of a VIP object has all parts.
func wantVIP(t *testing.T, s *scenario.Scenario, name, kind string, parts ...string) *v1alpha1.VIP {
	t.Helper()
	ctx := within(t.Context(), t)
	var vip *v1alpha1.VIP
	must(t, scenario.Until(ctx, func() (err error) {
		if vip, err = s.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		return has(vip.Status.Conditions, kind, parts)
	}))
	return vip
}

func has(conditions []metav1.Condition, kind string, parts []string) error {
	condition := meta.FindStatusCondition(conditions, kind)
	if condition == nil {
		return fmt.Errorf("no condition %s", kind)
	}
	text := fmt.Sprintf("%s %s: %s", condition.Status, condition.Reason, condition.Message)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return fmt.Errorf("condition %s is %q, want %q", kind, text, part)
		}
	}
	return nil
}

// gone waits until an IPPool does not exist.
func gone(t *testing.T, s *scenario.Scenario, pool string) {
	t.Helper()
	ctx := within(t.Context(), t)
	must(t, scenario.Until(ctx, func() error {
		_, err := s.Fairlead.FairleadV1alpha1().IPPools().Get(ctx, pool, metav1.GetOptions{})
		if err == nil {
			return fmt.Errorf("IPPool %s exists", pool)
		}
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	}))
}

// TestARenamedPoolLosesNoRequest renames the pool of an address that a client asks all the time.
func TestARenamedPoolLosesNoRequest(t *testing.T) {
	s, ctx := connect(t)
	pool := func(name string) {
		_, err := s.CreatePool(ctx, name, "10.87.101.0/28", "fd87::101:0/124")
		must(t, err)
	}
	pool("before")
	addresses := web(t, s, "renamed", "n1")
	for _, addr := range addresses {
		answers(t, s, "client", addr, 80)
	}
	probe, err := s.Probe(ctx, "client", cluster.ProbeOptions{Every: 20 * time.Millisecond}, urls(addresses)...)
	must(t, err)
	must(t, scenario.Until(within(ctx, t), func() error { return up(probe) }))
	pool("after")
	ready(t, s, "after", v1alpha1.PoolReasonOverlap)
	must(t, s.Fairlead.FairleadV1alpha1().IPPools().Delete(ctx, "before", metav1.DeleteOptions{}))
	gone(t, s, "before")
	t.Cleanup(func() {
		must(t, s.Fairlead.FairleadV1alpha1().IPPools().Delete(context.Background(), "after", metav1.DeleteOptions{}))
	})
	wantService(t, s, "renamed", fmt.Sprintf(`has %s from IPPool "after"`, addresses[0]))
	seen, err := probe.Stop()
	must(t, err)
	for _, summary := range seen {
		if summary.Failed > 0 || summary.Answered == 0 {
			t.Errorf("%s: %d requests failed, %d did not", summary.URL, summary.Failed, summary.Answered)
		}
	}
}

func TestAPoolInUseIsDeletedOnceItsAddressesAreFree(t *testing.T) {
	s, ctx := connect(t)
	_, err := s.CreatePool(ctx, "leaving", "10.87.102.0/28", "fd87::102:0/124")
	must(t, err)
	t.Run("while it is used", func(t *testing.T) {
		addresses := web(t, s, "stays", "n1")
		must(t, s.Fairlead.FairleadV1alpha1().IPPools().Delete(ctx, "leaving", metav1.DeleteOptions{}))
		message := ready(t, s, "leaving", v1alpha1.PoolReasonDeleting)
		if !strings.Contains(message, "of Service default/stays") {
			t.Errorf("the condition does not say what it waits for: %s", message)
		}
		wantService(t, s, "stays", "True NotAsWished", "being deleted", "keeps "+addresses[0].String())
		wantVIP(t, s, source.VIPName(addresses[0]), v1alpha1.VIPCovered, "False NotInPool")
		for _, addr := range addresses {
			answers(t, s, "client", addr, 80)
		}
	})
	gone(t, s, "leaving")
}

func TestAnAddressThatIsNotCoveredAnyMoreIsChangedOnlyByPolicy(t *testing.T) {
	s, ctx := connect(t)
	temporaryPool(t, s, "edited", manual, "10.87.103.0/28")
	temporaryService(t, s, "edited", func(service *corev1.Service) { single(service); annotate(source.AnnotationPool, "edited")(service) })
	before, err := s.Addresses(within(ctx, t), "edited", 1)
	must(t, err)
	edit := func(patch string) {
		_, err := s.Fairlead.FairleadV1alpha1().IPPools().Patch(ctx, "edited", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
		must(t, err)
	}
	edit(`{"spec":{"addresses":["10.87.103.16/28"]}}`)
	wantService(t, s, "edited", "True NotAsWished", before[0].String()+" is no longer in IPPool", "keeps "+before[0].String())
	edit(`{"spec":{"reclaim":"Reassign"}}`)
	wantService(t, s, "edited", "True Allocated: has 10.87.103.16")
}

// TestServicesShareAnAddressOnDisjointPorts sees both Services answer on one address, and one go without the other.
func TestServicesShareAnAddressOnDisjointPorts(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	share := annotate(source.AnnotationShareKey, "front")
	create := func(name string, port int32) []netip.Addr {
		must(t, s.AddWebPods(ctx, name, "n1"))
		_, err := s.CreateService(ctx, scenario.Service(name, share, func(service *corev1.Service) { service.Spec.Ports[0].Port = port }))
		must(t, err)
		addresses, err := s.Addresses(within(ctx, t), name, 2)
		must(t, err)
		return addresses
	}
	one, two := create("share-one", 80), create("share-two", 81)
	if one[0] != two[0] || one[1] != two[1] {
		t.Errorf("they have %v and %v", one, two)
	}
	for _, addr := range one {
		for port, name := range map[int]string{80: "share-one", 81: "share-two"} {
			if by := answers(t, s, "client", addr, port); !strings.HasPrefix(by, name) {
				t.Errorf("port %d of %s is answered by %s", port, addr, by)
			}
		}
	}
	must(t, s.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, "share-one", metav1.DeleteOptions{}))
	for _, addr := range one {
		must(t, scenario.Until(within(ctx, t), func() error {
			if _, err := s.Output(ctx, "client", "curl", "-s", "--max-time", "1", scenario.URL(addr, 80)); err == nil {
				return errors.New("the deleted Service answers")
			}
			return nil
		}))
		answers(t, s, "client", addr, 81)
	}
	must(t, s.Core.CoreV1().Services(scenario.Namespace).Delete(ctx, "share-two", metav1.DeleteOptions{}))
	must(t, s.DeletePod(ctx, "share-one-1"))
	must(t, s.DeletePod(ctx, "share-two-1"))
	must(t, s.Gone(within(ctx, t), one...))
}

func TestAClaimKeepsAnAddressBetweenServices(t *testing.T) {
	s, ctx := connect(t)
	pool(t, s)
	vips := s.Fairlead.FairleadV1alpha1().VIPs()
	_, err := vips.Create(ctx, &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	must(t, err)
	addr := netip.MustParseAddr(wantVIP(t, s, "shop", v1alpha1.VIPBound, "True AddressReserved").Spec.Address)
	for _, name := range []string{"claims-first", "claims-second"} {
		t.Run(name, func(t *testing.T) {
			must(t, s.AddWebPods(ctx, name, "n1"))
			temporaryService(t, s, name, func(service *corev1.Service) {
				single(service)
				annotate(source.AnnotationAddresses, addr.String())(service)
			})
			answers(t, s, "client", addr, 80)
			must(t, s.DeletePod(ctx, name+"-1"))
		})
		wantVIP(t, s, source.VIPName(addr), v1alpha1.VIPHeld)
	}
	for name, address := range map[string]string{"10.87.112.1": "10.87.112.2", "fd87-0000-0000-0000-0000-0000-0112-0001": ""} {
		object := &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.VIPSpec{Address: address}}
		if _, err := vips.Create(ctx, object, metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "named after an address") {
			t.Errorf("VIP %s with address %q: %v", name, address, err)
		}
	}
	must(t, vips.Delete(ctx, "shop", metav1.DeleteOptions{}))
	must(t, s.Gone(within(ctx, t), addr))
}

func TestAnnotationsOfMetalLBAndKubeVIPAreUnderstood(t *testing.T) {
	s, ctx := connect(t)
	temporaryPool(t, s, "theirs", manual, "10.87.104.0/28")
	for name, tc := range map[string]struct {
		change func(*corev1.Service)
		want   string
	}{
		"metallb-pool":    {annotate("metallb.io/address-pool", "theirs"), "10.87.104.0"},
		"metallb-address": {annotate("metallb.io/loadBalancerIPs", "10.87.104.9"), "10.87.104.9"},
		"kube-vip":        {annotate("kube-vip.io/loadbalancerIPs", "10.87.104.10"), "10.87.104.10"},
	} {
		temporaryService(t, s, name, func(service *corev1.Service) { single(service); tc.change(service) })
		addresses, err := s.Addresses(within(ctx, t), name, 1)
		must(t, err)
		if addresses[0].String() != tc.want {
			t.Errorf("%s has %v, want %s", name, addresses, tc.want)
		}
	}
}

// TestWhatIsConvertedIsAccepted has the API server look at pools, claims and a ConfigMap of other load balancers.
func TestWhatIsConvertedIsAccepted(t *testing.T) {
	s, ctx := connect(t)
	result, err := convert.Convert(convert.Input{Name: "stdin", YAML: []byte(theirs)})
	must(t, err)
	if len(result.Pools) != 4 || len(result.Claims) != 1 || result.Map == nil {
		t.Fatalf("%d pools, %d claims, map %v: %v", len(result.Pools), len(result.Claims), result.Map, result.Notes)
	}
	dry := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	for i := range result.Pools {
		_, err := s.Fairlead.FairleadV1alpha1().IPPools().Create(ctx, &result.Pools[i], dry)
		must(t, err)
	}
	for i := range result.Claims {
		_, err := s.Fairlead.FairleadV1alpha1().VIPs().Create(ctx, &result.Claims[i], dry)
		must(t, err)
	}
	_, err = s.Core.CoreV1().ConfigMaps(result.Map.Namespace).Create(ctx, result.Map, dry)
	must(t, err)
}

const theirs = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: edge, namespace: metallb-system}
spec:
  addresses: [203.0.113.0/28, "2001:db8::10-2001:db8::20"]
  avoidBuggyIPs: true
  serviceAllocation: {priority: 50, namespaces: [shop], serviceSelectors: [{matchLabels: {tier: front}}]}
---
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: edge, namespace: metallb-system}
spec: {ipAddressPools: [edge], interfaces: [eth0], nodeSelectors: [{matchLabels: {edge: "true"}}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: kubevip, namespace: kube-system}
data: {cidr-global: 198.51.100.0/28}
---
apiVersion: purelb.io/v1
kind: ServiceGroup
metadata: {name: default, namespace: purelb}
spec: {local: {v4pool: {subnet: 192.0.2.0/24, pool: 192.0.2.200-192.0.2.220, aggregation: default}}}
---
apiVersion: inwinstack.com/v1
kind: Pool
metadata: {name: internet}
spec: {addresses: [10.87.105.0/28], filterIPs: [10.87.105.3], avoidGatewayIPs: true, ignoreNamespaces: [kube-system]}
---
apiVersion: inwinstack.com/v1
kind: IP
metadata: {name: shop, namespace: default}
spec: {poolName: internet}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: vip-configmap, namespace: default}
data: {"10.4.0.50": "default/echoheaders"}
`
