package source

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func TestAnnotationsOfOthersMeanWhatTheyMeanThere(t *testing.T) {
	for _, tc := range []struct {
		name      string
		svc       *corev1.Service
		addr      string
		addrField string
		pool      string
		share     *v1alpha1.Share
	}{
		{name: "MetalLB's pool", svc: service(annotate("metallb.io/address-pool", "edge")), pool: "edge"},
		{name: "MetalLB's addresses, old name", svc: service(annotate("metallb.universe.tf/loadBalancerIPs", "192.0.2.7")),
			addr: "192.0.2.7", addrField: "annotation metallb.universe.tf/loadBalancerIPs"},
		{name: "MetalLB's sharing, in all namespaces", svc: service(annotate("metallb.io/allow-shared-ip", "dns")),
			share: &v1alpha1.Share{Key: "dns", Namespaces: []string{"*"}}},
		{name: "kube-vip's address", svc: service(annotate("kube-vip.io/loadbalancerIPs", "192.0.2.8")),
			addr: "192.0.2.8", addrField: "annotation kube-vip.io/loadbalancerIPs"},
		{name: "ours goes before theirs", svc: service(annotate("metallb.io/address-pool", "theirs"), annotate(AnnotationPool, "ours")), pool: "ours"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Rules{Foreign: true}.Request(tc.svc)
			if err != nil {
				t.Fatal(err)
			}
			addr := ""
			if a, ok := got.Addresses[corev1.IPv4Protocol]; ok {
				addr = a.String()
			}
			if addr != tc.addr || got.AddressField != tc.addrField || got.Pool != tc.pool {
				t.Errorf("got %+v", got)
			}
			if diff := cmp.Diff(tc.share, got.Share); diff != "" {
				t.Error(diff)
			}
			off, err := Rules{}.Request(tc.svc)
			if err != nil || len(off.Addresses) > 0 || off.Share != nil || off.Pool != "" && off.Pool != "ours" {
				t.Errorf("switched off: %+v, %v", off, err)
			}
		})
	}
}

func TestKubeVIPsDHCPIsRefused(t *testing.T) {
	_, err := Rules{Foreign: true}.Request(service(annotate("kube-vip.io/loadbalancerIPs", "0.0.0.0")))
	if err == nil || !strings.Contains(err.Error(), "DHCP") || !strings.Contains(err.Error(), "make an IPPool") {
		t.Errorf("%v", err)
	}
}

func TestShareNamespacesAloneAreRefused(t *testing.T) {
	_, err := Rules{}.Request(service(annotate(AnnotationShareNamespaces, "*")))
	if err == nil || !strings.Contains(err.Error(), AnnotationShareKey) {
		t.Errorf("%v", err)
	}
}

func TestDisagreement(t *testing.T) {
	frontend := func(namespace string, port int32, share *v1alpha1.Share) v1alpha1.Frontend {
		return v1alpha1.Frontend{Port: port, Protocol: corev1.ProtocolTCP, Share: share,
			Service: v1alpha1.ServiceReference{Namespace: namespace, Name: "other"}}
	}
	key := func(key string, namespaces ...string) *v1alpha1.Share {
		return &v1alpha1.Share{Key: key, Namespaces: namespaces}
	}
	local := func(selector string) *v1alpha1.Share { return &v1alpha1.Share{Key: "k", Backends: selector} }
	for _, tc := range []struct {
		name string
		a, b v1alpha1.Frontend
		says string
	}{
		{"same key, other ports", frontend("a", 80, key("k")), frontend("a", 81, key("k")), ""},
		{"same port", frontend("a", 80, key("k")), frontend("a", 80, key("k")), "port 80/TCP"},
		{"other key", frontend("a", 80, key("k")), frontend("a", 81, key("l")), `by key "l", not "k"`},
		{"the other shares with nobody", frontend("a", 80, key("k")), frontend("a", 81, nil), "shares it with nobody"},
		{"this one shares with nobody", frontend("a", 80, nil), frontend("a", 81, key("k")), `"k" is needed`},
		{"two namespaces, one agrees", frontend("a", 80, key("k", "*")), frontend("b", 81, key("k")), "both need annotation"},
		{"two namespaces, both agree", frontend("a", 80, key("k", "*")), frontend("b", 81, key("k", "c", "a")), ""},
		{"Local and Cluster", frontend("a", 80, local("app=x")), frontend("a", 81, key("k")), "same selector"},
		{"Local, same backends", frontend("a", 80, local("app=x")), frontend("a", 81, local("app=x")), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Disagreement(tc.a, tc.b); (got == "") != (tc.says == "") || !strings.Contains(got, tc.says) {
				t.Errorf("%q, want %q", got, tc.says)
			}
		})
	}
}

func TestLocalServicesShareByTheirSelector(t *testing.T) {
	local := func(svc *corev1.Service) {
		svc.Spec.ExternalTrafficPolicy, svc.Spec.Selector = corev1.ServiceExternalTrafficPolicyLocal, map[string]string{"b": "2", "a": "1"}
	}
	got, err := Rules{}.Request(service(annotate(AnnotationShareKey, "k"), annotate(AnnotationShareNamespaces, "z, y"), local))
	if err != nil {
		t.Fatal(err)
	}
	want := &v1alpha1.Share{Key: "k", Namespaces: []string{"y", "z"}, Backends: "default: a=1,b=2"}
	if diff := cmp.Diff(want, got.Share); diff != "" {
		t.Error(diff)
	}
}
