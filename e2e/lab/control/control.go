// Package control describes a real Kubernetes control plane and kube-proxy as command lines of the lab's Kubernetes
// binary, with the certificates, tokens and kubeconfigs they share. It owns the files in its directory; it starts nothing.
package control

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// Ports of the first plane on a host. Those of the others follow at steps of portStep.
const (
	apiPort        = 6443
	etcdPort       = 2379
	etcdPeerPort   = 2380
	controllerPort = 10257
	portStep       = 10
)

// ProxyHealthPort is where kube-proxy tells, by HTTP, whether it has programmed its node.
const ProxyHealthPort = 10256

// controllers are those a cluster without kubelets and cloud needs.
var controllers = []string{
	"endpointslice-controller", "endpoints-controller", "endpointslice-mirroring-controller", "serviceaccount-controller",
	"serviceaccount-token-controller", "root-ca-certificate-publisher-controller", "namespace-controller",
	"garbage-collector-controller",
}

// Plane is a control plane's files and addresses.
type Plane struct {
	dir      string
	binary   string
	families topology.Families
	number   int // of planes on the same host before this one
	admin    string
	proxy    string
}

// New writes certificates, tokens and kubeconfigs into dir. Planes on one host have numbers of their own, from 0, which give
// them ports of their own.
func New(dir, binary string, families topology.Families, number int) (*Plane, error) {
	p := &Plane{dir: dir, binary: binary, families: families, number: number, admin: rand.Text(), proxy: rand.Text()}
	addresses := topology.Addresses(families.API())
	for _, cidr := range families.ServiceCIDRs() {
		addresses = append(addresses, cidr.Addr().Next())
	}
	if err := writePKI(dir, addresses); err != nil {
		return nil, err
	}
	tokens := p.admin + ",admin,admin,system:masters\n" + p.proxy + ",system:kube-proxy,kube-proxy,\n"
	if err := os.WriteFile(p.file("tokens.csv"), []byte(tokens), 0o600); err != nil {
		return nil, fmt.Errorf("write tokens: %w", err)
	}
	if err := p.WriteKubeconfig(p.AdminKubeconfig(), p.admin); err != nil {
		return nil, err
	}
	return p, p.WriteKubeconfig(p.file("kube-proxy.kubeconfig"), p.proxy)
}

func (p *Plane) file(name string) string { return filepath.Join(p.dir, name) }

// AdminKubeconfig is the path of the administrator's kubeconfig.
func (p *Plane) AdminKubeconfig() string { return p.file("admin.kubeconfig") }

// Address is where every host reaches the API server.
func (p *Plane) Address() netip.AddrPort {
	return netip.AddrPortFrom(p.families.API()[0].Addr(), uint16(p.port(apiPort)))
}

func (p *Plane) port(first int) int { return first + portStep*p.number }

// loopback is the URL of a port that only this host's own programs reach.
func (p *Plane) loopback(first int) string { return fmt.Sprintf("http://127.0.0.1:%d", p.port(first)) }

func (p *Plane) url() string { return "https://" + p.Address().String() }

// RESTConfig is the administrator's.
func (p *Plane) RESTConfig() *rest.Config {
	return &rest.Config{
		Host: p.url(), BearerToken: p.admin, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAFile: p.file("ca.crt")},
	}
}

// WriteKubeconfig writes a kubeconfig with a bearer token.
func (p *Plane) WriteKubeconfig(path, token string) error {
	ca, err := os.ReadFile(p.file("ca.crt"))
	if err != nil {
		return fmt.Errorf("read the CA's certificate: %w", err)
	}
	config := api.NewConfig()
	config.Clusters["lab"] = &api.Cluster{Server: p.url(), CertificateAuthorityData: ca}
	config.AuthInfos["lab"] = &api.AuthInfo{Token: token}
	config.Contexts["lab"] = &api.Context{Cluster: "lab", AuthInfo: "lab"}
	config.CurrentContext = "lab"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return nil
}

// Etcd is etcd's command line.
func (p *Plane) Etcd() []string {
	clients, peers := p.loopback(etcdPort), p.loopback(etcdPeerPort)
	return []string{
		p.binary, "etcd", "--data-dir", p.file("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + clients, "--advertise-client-urls=" + clients,
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=default=" + peers,
	}
}

// APIServer is kube-apiserver's command line.
func (p *Plane) APIServer() []string {
	bind := "0.0.0.0"
	if p.families.V6 {
		bind = "::"
	}
	return []string{
		p.binary, "kube-apiserver", "--etcd-servers=" + p.loopback(etcdPort),
		"--advertise-address=" + p.Address().Addr().String(), "--bind-address=" + bind,
		fmt.Sprintf("--secure-port=%d", p.port(apiPort)),
		"--service-cluster-ip-range=" + topology.Join(p.families.ServiceCIDRs()),
		"--authorization-mode=RBAC", "--token-auth-file=" + p.file("tokens.csv"),
		"--tls-cert-file=" + p.file("server.crt"), "--tls-private-key-file=" + p.file("server.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p.file("sa.key"), "--service-account-signing-key-file=" + p.file("sa.key"),
		"--cert-dir=" + p.file("apiserver"),
		// Its taint is taken away by a controller that judges nodes by their kubelets.
		"--disable-admission-plugins=TaintNodesByCondition",
		"--allow-privileged",
	}
}

// ControllerManager is kube-controller-manager's command line.
func (p *Plane) ControllerManager() []string {
	return []string{
		p.binary, "kube-controller-manager", "--kubeconfig=" + p.AdminKubeconfig(), "--leader-elect=false",
		fmt.Sprintf("--secure-port=%d", p.port(controllerPort)),
		"--controllers=" + strings.Join(controllers, ","), "--root-ca-file=" + p.file("ca.crt"),
		"--service-account-private-key-file=" + p.file("sa.key"), "--cert-dir=" + p.file("controller-manager"),
		"--cluster-cidr=" + topology.Join(p.families.ClusterCIDRs()),
		"--service-cluster-ip-range=" + topology.Join(p.families.ServiceCIDRs()), "--allocate-node-cidrs=false",
		// Endpoints of a probe or a test are wanted now; batching is for large clusters.
		"--endpointslice-updates-batch-period=0s", "--endpoint-updates-batch-period=0s",
	}
}

// ProxyMode is a mode of kube-proxy, or none.
type ProxyMode string

// ProxyModes are the modes of the first nodes, in order; those behind have the last one.
type ProxyModes []ProxyMode

// ParseProxyModes reads nftables, iptables, ipvs or none, or several of them with commas between.
func ParseProxyModes(text string) (modes ProxyModes, err error) {
	for mode := range strings.SplitSeq(text, ",") {
		switch mode {
		case "nftables", "iptables", "ipvs", "none":
			modes = append(modes, ProxyMode(mode))
		default:
			return nil, fmt.Errorf("kube-proxy %q: want nftables, iptables, ipvs or none", mode)
		}
	}
	return modes, nil
}

// Of is the mode of node i, of which the first is 1.
func (m ProxyModes) Of(i int) ProxyMode { return m[min(i, len(m))-1] }

// None reports whether no node has a kube-proxy.
func (m ProxyModes) None() bool {
	return !slices.ContainsFunc(m, func(mode ProxyMode) bool { return mode != "none" })
}

// String is what ParseProxyModes reads.
func (m ProxyModes) String() string {
	texts := make([]string, len(m))
	for i, mode := range m {
		texts[i] = string(mode)
	}
	return strings.Join(texts, ",")
}

// Proxy is kube-proxy's command line on a node, with more flags of the user's behind.
func (p *Plane) Proxy(node string, mode ProxyMode, more []string) []string {
	everywhere := "0.0.0.0"
	if p.families.V6 {
		everywhere = "[::]"
	}
	argv := []string{
		p.binary, "kube-proxy", "--kubeconfig=" + p.file("kube-proxy.kubeconfig"), "--proxy-mode=" + string(mode),
		"--hostname-override=" + node, "--cluster-cidr=" + topology.Join(p.families.ClusterCIDRs()),
		// The conntrack table's size belongs to the kernel, not to a network namespace.
		"--conntrack-max-per-core=0", "--conntrack-min=0",
		"--metrics-bind-address=" + everywhere + ":10249",
		fmt.Sprintf("--healthz-bind-address=%s:%d", everywhere, ProxyHealthPort),
	}
	return append(argv, more...)
}
