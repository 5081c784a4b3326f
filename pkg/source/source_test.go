package source

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func service(change ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1", Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeLoadBalancer,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Port: 80}},
		},
	}
	for _, c := range change {
		c(svc)
	}
	return svc
}

func annotate(key, value string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Annotations[key] = value }
}

func dual(policy corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		svc.Spec.IPFamilyPolicy = &policy
	}
}

func TestOurs(t *testing.T) {
	class := func(name string) func(*corev1.Service) {
		return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &name }
	}
	for _, tc := range []struct {
		name      string
		svc       *corev1.Service
		classless bool
		want      bool
	}{
		{"no class, class-less are ours", service(), true, true},
		{"no class, class-less are not ours", service(), false, false},
		{"our class", service(class(DefaultClass)), false, true},
		{"another's class", service(class("metallb.io/lb")), true, false},
		{"another type", service(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }), true, false},
		{"being deleted", service(func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{} }), true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := (Rules{Class: DefaultClass, Classless: tc.classless}).Ours(tc.svc); got != tc.want {
				t.Errorf("Ours = %v", got)
			}
		})
	}
}

func TestRequest(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10")
	for _, tc := range []struct {
		name      string
		svc       *corev1.Service
		families  string
		require   bool
		pool      string
		addresses map[corev1.IPFamily]netip.Addr
	}{
		{name: "one family", svc: service(), families: "IPv4"},
		{name: "both preferred, IPv6 first", svc: service(dual(corev1.IPFamilyPolicyPreferDualStack)), families: "IPv6 IPv4"},
		{name: "both required", svc: service(dual(corev1.IPFamilyPolicyRequireDualStack)), families: "IPv6 IPv4", require: true},
		{name: "no families filled in, IPv6 cluster", families: "IPv6", svc: service(func(s *corev1.Service) {
			s.Spec.IPFamilies, s.Spec.ClusterIP = nil, "fd00::1"
		})},
		{name: "a pool", svc: service(annotate(AnnotationPool, " edge ")), families: "IPv4", pool: "edge"},
		{name: "both addresses", svc: service(dual(corev1.IPFamilyPolicyPreferDualStack), annotate(AnnotationAddresses, "2001:DB8::10, 192.0.2.10")),
			families: "IPv6 IPv4", addresses: map[corev1.IPFamily]netip.Addr{corev1.IPv4Protocol: v4, corev1.IPv6Protocol: v6}},
		{name: "spec.loadBalancerIP", svc: service(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.10" }),
			families: "IPv4", addresses: map[corev1.IPFamily]netip.Addr{corev1.IPv4Protocol: v4}},
		{name: "the annotation goes before the field", families: "IPv4", addresses: map[corev1.IPFamily]netip.Addr{corev1.IPv4Protocol: v4},
			svc: service(annotate(AnnotationAddresses, "192.0.2.10"), func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.99" })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Rules{}.Request(tc.svc)
			if err != nil {
				t.Fatal(err)
			}
			var families []string
			for _, f := range got.Families {
				families = append(families, string(f))
			}
			if strings.Join(families, " ") != tc.families || got.RequireAll != tc.require || got.Pool != tc.pool {
				t.Errorf("got %+v", got)
			}
			if diff := cmp.Diff(tc.addresses, got.Addresses, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRequestRefuses(t *testing.T) {
	ranges := func(values ...string) func(*corev1.Service) {
		return func(svc *corev1.Service) { svc.Spec.LoadBalancerSourceRanges = values }
	}
	for _, tc := range []struct {
		name string
		svc  *corev1.Service
		says []string
	}{
		{"nonsense", service(annotate(AnnotationAddresses, "web.example")), []string{AnnotationAddresses, `"web.example"`, "write at most one"}},
		{"two of a family", service(annotate(AnnotationAddresses, "192.0.2.1,192.0.2.2")), []string{"two IPv4 addresses, 192.0.2.1 and 192.0.2.2", "keep one"}},
		{"a family that the Service lacks", service(annotate(AnnotationAddresses, "2001:db8::1")), []string{"2001:db8::1, but the Service has no IPv6", "spec.ipFamilies"}},
		{"a mapped address", service(annotate(AnnotationAddresses, "::ffff:192.0.2.1")), []string{"IPv4-mapped", "write 192.0.2.1"}},
		{"a zone", service(annotate(AnnotationAddresses, "fe80::1%eth0")), []string{"not an IP address"}},
		{"a bad loadBalancerIP", service(func(s *corev1.Service) { s.Spec.LoadBalancerIP = "10.0.0" }), []string{"spec.loadBalancerIP", `"10.0.0"`}},
		{"bad ranges, all named", service(ranges("10.0.0.0", "192.0.2.0/24", "x/8")), []string{"spec.loadBalancerSourceRanges", `"10.0.0.0"`, `"x/8"`, "write networks"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Rules{}.Request(tc.svc)
			if typed := (*Error)(nil); !errors.As(err, &typed) {
				t.Fatalf("%v, want an *Error", err)
			}
			for _, part := range tc.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestFrontends(t *testing.T) {
	svc := service(dual(corev1.IPFamilyPolicyPreferDualStack), func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "https", Port: 443, Protocol: corev1.ProtocolTCP}, {Name: "quic", Port: 443, Protocol: corev1.ProtocolUDP}, {Name: "http", Port: 80, NodePort: 30080}}
		s.Spec.LoadBalancerSourceRanges = []string{"198.51.100.7/24", " 203.0.113.0/24", "198.51.100.0/24"}
	})
	request, err := Rules{}.Request(svc)
	if err != nil {
		t.Fatal(err)
	}
	frontend := func(port int32, protocol corev1.Protocol, name string, ranges ...string) v1alpha1.Frontend {
		return v1alpha1.Frontend{Port: port, Protocol: protocol, PortName: name, SourceRanges: ranges,
			Service: v1alpha1.ServiceReference{Namespace: "default", Name: "web", UID: "u1"}}
	}
	open := []string{"198.51.100.0/24", "203.0.113.0/24"}
	want := []v1alpha1.Frontend{
		frontend(80, corev1.ProtocolTCP, "http", open...),
		frontend(443, corev1.ProtocolTCP, "https", open...),
		frontend(443, corev1.ProtocolUDP, "quic", open...),
	}
	want[0].NodePort = 30080
	if diff := cmp.Diff(want, request.Frontends(corev1.IPv4Protocol)); diff != "" {
		t.Error(diff)
	}
	for _, f := range request.Frontends(corev1.IPv6Protocol) {
		if len(f.SourceRanges) != 1 || f.SourceRanges[0] != "::/128" {
			t.Errorf("ranges of IPv4 alone open IPv6 to %v", f.SourceRanges)
		}
	}
	svc.Spec.LoadBalancerSourceRanges = nil
	if request, _ = (Rules{}).Request(svc); request.Frontends(corev1.IPv4Protocol)[0].SourceRanges != nil {
		t.Error("a Service without ranges is not open to everybody")
	}
}

func TestVIPName(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.10":    "192.0.2.10",
		"2001:db8::10":  "2001-0db8-0000-0000-0000-0000-0000-0010",
		"fd00::1%eth0":  "fd00-0000-0000-0000-0000-0000-0000-0001",
		"2001:db8:a::F": "2001-0db8-000a-0000-0000-0000-0000-000f",
	} {
		parsed := netip.MustParseAddr(addr)
		name := VIPName(parsed)
		if name != want {
			t.Errorf("VIPName(%s) = %s, want %s", addr, name, want)
		}
		if back, err := ParseVIPName(name); err != nil || back != parsed.WithZone("") {
			t.Errorf("ParseVIPName(%s) = %v, %v", name, back, err)
		}
	}
	for _, name := range []string{"", "web", "192.0.2.010", "2001-db8--10", "2001-0DB8-0000-0000-0000-0000-0000-0010",
		"0000-0000-0000-0000-0000-ffff-c000-020a", "2001:0db8:0000:0000:0000:0000:0000:0010"} {
		if addr, err := ParseVIPName(name); err == nil {
			t.Errorf("ParseVIPName(%q) = %v, want an error", name, addr)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add("192.0.2.1,2001:db8::1", "10.0.0.0/8")
	f.Add("::ffff:1.2.3.4", "x")
	f.Fuzz(func(t *testing.T, addresses, sourceRange string) {
		svc := service(dual(corev1.IPFamilyPolicyPreferDualStack), annotate(AnnotationAddresses, addresses),
			func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = []string{sourceRange} })
		request, err := Rules{}.Request(svc)
		if err != nil {
			return
		}
		for family, addr := range request.Addresses {
			if back, err := ParseVIPName(VIPName(addr)); err != nil || back != addr || FamilyOf(addr) != family {
				t.Fatalf("%q gave %v as %s", addresses, addr, family)
			}
		}
		for _, family := range request.Families {
			if got := request.Frontends(family); len(got) != 1 || len(got[0].SourceRanges) == 0 {
				t.Fatalf("restricted to %q, frontends %+v are open", sourceRange, got)
			}
		}
	})
}
