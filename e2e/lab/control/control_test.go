package control

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/e2e/lab/topology"
)

func TestCertificateIsValidForEveryAddressOfTheAPIServer(t *testing.T) {
	dir := t.TempDir()
	if _, err := New(dir, "/k", topology.Families{V4: true, V6: true}, 0); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, name := range []string{"172.30.0.1", "fd30::1", "10.96.0.1", "fd00:96::1", "kubernetes.default.svc"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKubeconfigReachesTheAPIServerByAFamilyOfTheLab(t *testing.T) {
	for families, want := range map[topology.Families]string{
		{V4: true}: "https://172.30.0.1:6443", {V6: true}: "https://[fd30::1]:6443", {V4: true, V6: true}: "https://172.30.0.1:6443",
	} {
		plane, err := New(t.TempDir(), "/k", families, 0)
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", plane.AdminKubeconfig())
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != want || config.BearerToken == "" || config.BearerToken != plane.RESTConfig().BearerToken {
			t.Errorf("%s: host %s, want %s", families, config.Host, want)
		}
	}
}

func TestCommandLinesNameTheRangesOfTheFamilies(t *testing.T) {
	plane, err := New(t.TempDir(), "/k", topology.Families{V6: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{plane.APIServer(), plane.ControllerManager(), plane.Proxy("n1", "ipvs", nil)} {
		if line := strings.Join(argv, " "); strings.Contains(line, "10.96.") || strings.Contains(line, "10.244.") {
			t.Errorf("a lab of IPv6 has %s", line)
		}
	}
	if !slices.Contains(plane.APIServer(), "--service-cluster-ip-range=fd00:96::/112") {
		t.Errorf("no service range in %q", plane.APIServer())
	}
	if argv := plane.Proxy("n1", "ipvs", []string{"--ipvs-strict-arp"}); argv[len(argv)-1] != "--ipvs-strict-arp" {
		t.Errorf("the user's flag is not the last of %q", argv)
	}
}

func TestPlanesOnOneHostShareNoPort(t *testing.T) {
	owners := map[string]int{}
	for number := range 2 {
		plane, err := New(t.TempDir(), "/k", topology.Families{V4: true}, number)
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", plane.AdminKubeconfig())
		if err != nil {
			t.Fatal(err)
		}
		listens := map[string]bool{}
		for _, argv := range [][]string{plane.Etcd(), plane.APIServer(), plane.ControllerManager()} {
			for _, arg := range argv {
				flag, value, _ := strings.Cut(arg, "=")
				if flag == "--secure-port" || flag == "--listen-client-urls" || flag == "--listen-peer-urls" {
					listens[value[strings.LastIndex(value, ":")+1:]] = true
				}
			}
		}
		if len(listens) != 4 || !listens[config.Host[strings.LastIndex(config.Host, ":")+1:]] {
			t.Errorf("plane %d listens on %v, its kubeconfig names %s", number, listens, config.Host)
		}
		for port := range listens {
			if other, taken := owners[port]; taken {
				t.Errorf("planes %d and %d both listen on port %s", other, number, port)
			}
			owners[port] = number
		}
	}
}

func TestParseProxyModes(t *testing.T) {
	for text, want := range map[string][]ProxyMode{ // of the first four nodes
		"nftables": {"nftables", "nftables", "nftables", "nftables"}, "ipvs": {"ipvs", "ipvs", "ipvs", "ipvs"},
		"iptables,none,nftables": {"iptables", "none", "nftables", "nftables"},
	} {
		modes, err := ParseProxyModes(text)
		if err != nil || modes.String() != text {
			t.Errorf("%s: got %s, %v", text, modes, err)
		}
		for i, mode := range want {
			if got := modes.Of(i + 1); got != mode {
				t.Errorf("%s: node %d has %s, want %s", text, i+1, got, mode)
			}
		}
	}
	for _, text := range []string{"userspace", "", "nftables,", "nftables iptables"} {
		if got, err := ParseProxyModes(text); err == nil {
			t.Errorf("%q is taken for %s", text, got)
		}
	}
	for text, want := range map[string]bool{"none": true, "none,none": true, "none,ipvs": false} {
		if modes, _ := ParseProxyModes(text); modes.None() != want {
			t.Errorf("%s: none is %v, want %v", text, modes.None(), want)
		}
	}
}
