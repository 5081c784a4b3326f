package source

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"
)

// show writes mappings as "address=namespace/service[:METHOD]+… …".
func show(mappings []Mapping) string {
	var all []string
	for _, m := range mappings {
		var targets []string
		for _, t := range m.Targets {
			targets = append(targets, strings.TrimSuffix(fmt.Sprintf("%s:%s", t.Service, t.Method), ":"))
		}
		all = append(all, m.Addr.String()+"="+strings.Join(targets, "+"))
	}
	return strings.Join(all, " ")
}

func TestFromConfigMap(t *testing.T) {
	for _, tc := range []struct {
		name, key, value, want string
	}{
		{"as kube-keepalived-vip has it", "10.4.0.50", "default/echoheaders", "10.4.0.50=default/echoheaders"},
		{"a method", "10.4.0.50", "default/echoheaders:DR", "10.4.0.50=default/echoheaders:DR"},
		{"the methods", "10.4.0.50", "a/b:NAT,c/d:TUN", "10.4.0.50=a/b:NAT+c/d:TUN"},
		{"a method in small letters, spaces", "10.4.0.50", " default/echoheaders : proxy ", "10.4.0.50=default/echoheaders:PROXY"},
		{"the address alone", "10.4.0.50", "", "10.4.0.50="},
		{"several Services by comma and newline", "10.4.0.50", "a/b, c/d:DR\n\n# a remark\ne/f\n", "10.4.0.50=a/b+c/d:DR+e/f"},
		{"one Service twice", "10.4.0.50", "a/b,a/b:DR", "10.4.0.50=a/b"},
		{"a key with a number", "1-10.4.0.50", "a/b", "10.4.0.50=a/b"},
		{"an IPv6 key", "2001-0db8-0000-0000-0000-0000-0000-0010", "a/b", "2001:db8::10=a/b"},
		{"a short IPv6 key", "2001-db8--10", "a/b", "2001:db8::10=a/b"},
		{"the address on the value's side", "web", "2001:db8::10=a/b\n2001-db8--11 = c/d:DR, 10.4.0.50=", "10.4.0.50= 2001:db8::10=a/b 2001:db8::11=c/d:DR"},
		{"a key with an address, a line with its own", "10.4.0.50", "a/b\n2001:db8::10=a/b", "10.4.0.50=a/b 2001:db8::10=a/b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := FromConfigMap(map[string]string{tc.key: tc.value})
			if err != nil || show(got) != tc.want {
				t.Errorf("%s, %v; want %s", show(got), err, tc.want)
			}
		})
	}
}

func TestOneAddressOfTwoKeysIsOneMapping(t *testing.T) {
	got, err := FromConfigMap(map[string]string{"10.4.0.50": "a/b", "more": "10.4.0.50=c/d"})
	if err != nil || show(got) != "10.4.0.50=a/b+c/d" || strings.Join(got[0].Keys, " ") != "10.4.0.50 more" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestABadLineCostsNoOtherLineAnything(t *testing.T) {
	got, err := FromConfigMap(map[string]string{
		"10.4.0.50":  "a/b\nnonsense\nc/d:GRE\ne/f",
		"10.4.0.500": "a/b",
		"10.4.0.51":  "g/h",
		"web":        "nowhere=a/b",
		"empty":      "",
	})
	if show(got) != "10.4.0.50=a/b+e/f 10.4.0.51=g/h" || !got[0].Unsure || got[1].Unsure {
		t.Errorf("%+v", got)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 5 {
		t.Fatalf("%v, want five errors", err)
	}
	for _, e := range joined.Unwrap() {
		if line := (*LineError)(nil); !errors.As(e, &line) || line.Key == "" || line.Remedy == "" {
			t.Errorf("%v names no key or remedy", e)
		}
	}
	for _, part := range []string{`key "10.4.0.50": "nonsense" names no Service: write namespace/service`, `forwarding method "GRE"`,
		`key "10.4.0.500": "a/b" has no address`, `key "web"`, `key "empty"`, "write an IPv4 address"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

func TestATargetHasAllPortsOfItsService(t *testing.T) {
	svc := service(func(s *corev1.Service) {
		s.Spec.Type = corev1.ServiceTypeClusterIP
		s.Spec.Ports = []corev1.ServicePort{{Name: "b", Port: 443}, {Name: "a", Port: 53, Protocol: corev1.ProtocolUDP}}
	})
	got, err := Target{}.Frontends(svc, corev1.IPv4Protocol, "kube-system/vips")
	if err != nil || len(got) != 2 || PortString(got[0]) != "53/UDP" || PortString(got[1]) != "443/TCP" ||
		got[0].ConfigMap != "kube-system/vips" || got[0].Service.UID != "" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzFromConfigMap(f *testing.F) {
	f.Add("10.4.0.50", "default/nginx:NAT")
	f.Add("2001-0db8-0000-0000-0000-0000-0000-0010", "a/b,c/d\n")
	f.Add("web", "fe80::1%eth0=a/b\n=\n==a/b")
	f.Fuzz(func(t *testing.T, key, text string) {
		got, err := FromConfigMap(map[string]string{key: text})
		for _, m := range got {
			if !m.Addr.IsValid() || len(m.Keys) != 1 {
				t.Fatalf("%q: %q gave %+v", key, text, m)
			}
			if back, err := ParseVIPName(VIPName(m.Addr)); err != nil || back != m.Addr {
				t.Fatalf("%q: %q gave %v, which is no name of a VIP", key, text, m.Addr)
			}
		}
		if words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }); len(got) == 0 && err == nil && len(words) > 0 && !strings.Contains(text, "#") {
			t.Fatalf("%q: %q is lost without an error", key, text)
		}
	})
}
