package tests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// course is what BenchmarkDatapath runs over: servers, and the balancers in front of them.
type course struct {
	*scenario.Scenario
	backends []addresses
	paths    [bothFamilies][]path
	others   []string // cluster IPs of the other Services
}

// ipFamily is an index.
type ipFamily int

const (
	ipv4 ipFamily = iota
	ipv6
	bothFamilies
)

func (f ipFamily) String() string { return [...]string{"IPv4", "IPv6"}[f] }

// addresses are one's of each family.
type addresses [bothFamilies]netip.Addr

func parseAddresses(v4, v6 string) addresses {
	return addresses{netip.MustParseAddr(v4), netip.MustParseAddr(v6)}
}

// Addresses that kube-proxy and keepalived balance.
var (
	addressIPTables = parseAddresses("10.87.230.1", "fd87::230:1")
	addressNFTables = parseAddresses("10.87.230.3", "fd87::230:3")
	keepalived      = []struct { // method: as ipvsadm calls it
		kind, method, path string
		addr               addresses
	}{
		{"NAT", "Masq", masquerade, parseAddresses("10.87.240.1", "fd87::240:1")},
		{"DR", "Route", "direct", parseAddresses("10.87.240.2", "fd87::240:2")},
		{"TUN", "Tunnel", "tunnel", parseAddresses("10.87.240.3", "fd87::240:3")},
	}
)

const (
	pathDirect     = "straight"
	pathIPTables   = "kube-proxy-iptables"
	pathNFTables   = "kube-proxy-nftables"
	pathKeepalived = "keepalived-"
	pathVIP        = "vip-"
	masquerade     = "masquerade"
)

func newCourse(b *testing.B, s *scenario.Scenario) *course {
	b.Helper()
	c := &course{Scenario: s}
	for _, node := range []string{nodeBackend1, nodeBackend2} {
		serve(b, s, node, fmt.Sprintf("tcp:%d", portLines), fmt.Sprintf("udp:%d", portLines), fmt.Sprintf("chargen:%d", portBulk))
		c.backends = append(c.backends, c.addressesOf(b, node))
	}
	for _, node := range []string{nodeIPTables, nodeNFTables, nodeKeepalived} {
		c.leave(b, node)
	}
	c.add(pathDirect, c.backends[0])
	c.balanceByKubeProxy(b)
	c.balanceByKeepalived(b)
	c.balanceByVIPs(b)
	targets := []string{"lab", "probe", "--until-answer", "--for", "60s"}
	for _, path := range slices.Concat(c.paths[:]...) {
		for _, protocol := range []string{"tcp", "udp"} {
			targets = append(targets, fmt.Sprintf("%s://%s", protocol, netip.AddrPortFrom(path.addr, portLines)))
		}
	}
	_, err := s.Output(b.Context(), "client", targets...)
	must(b, err)
	return c
}

// add makes a path of each family in which it has an address.
func (c *course) add(name string, to addresses, rivals ...string) {
	for family, addr := range to {
		if addr.IsValid() {
			c.paths[family] = append(c.paths[family], path{name: name, addr: addr, rivals: rivals})
		}
	}
}

func (c *course) addressesOf(b *testing.B, host string) addresses {
	b.Helper()
	return addresses{nodeAddress(b, c.Scenario, host, true), nodeAddress(b, c.Scenario, host, false)}
}

// leave takes Fairlead off a node, on which another balancer is measured.
func (c *course) leave(b *testing.B, node string) {
	b.Helper()
	ctx := within(b.Context(), b)
	must(b, c.Maintain(ctx, node, true))
	must(b, c.Fault(ctx, cluster.StopSpeaker, node))
	_, err := c.Output(ctx, node, "sh", "-c", "ipvsadm -C && nft add table inet fairlead && nft delete table inet fairlead")
	must(b, err)
	b.Cleanup(func() {
		must(b, c.Fault(context.Background(), cluster.StartSpeaker, node))
		must(b, c.Maintain(context.Background(), node, false))
	})
}

// service makes a Service of the servers. They are on their nodes' own network, where they can have the VIP too, so their
// endpoints are written by hand; change may alter it before it is created.
func (c *course) service(ctx context.Context, name string, change func(*corev1.Service)) (*corev1.Service, error) {
	var ports []corev1.ServicePort
	for label, port := range map[string]int32{"lines": portLines, "bulk": portBulk, "nobody": portNobody} {
		ports = append(ports, corev1.ServicePort{Name: label, Protocol: corev1.ProtocolTCP, Port: port, TargetPort: intstr.FromInt32(port)})
	}
	service, err := c.CreateService(ctx, scenario.Service(name, func(service *corev1.Service) {
		service.Spec.Selector, service.Spec.Ports = nil, ports
		change(service)
	}))
	if err != nil {
		return nil, err
	}
	for _, family := range service.Spec.IPFamilies {
		if err := c.endpoints(ctx, service, family); err != nil {
			return nil, err
		}
	}
	return service, nil
}

// endpoints makes those of one family.
func (c *course) endpoints(ctx context.Context, service *corev1.Service, of corev1.IPFamily) error {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: service.Name + "-" + strings.ToLower(string(of)), Namespace: service.Namespace,
			Labels: map[string]string{discoveryv1.LabelServiceName: service.Name, discoveryv1.LabelManagedBy: "bench"},
		},
		AddressType: discoveryv1.AddressType(of),
	}
	for _, port := range service.Spec.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &port.Name, Port: &port.Port, Protocol: &port.Protocol})
	}
	for i, node := range []string{nodeBackend1, nodeBackend2} {
		addr := c.backends[i][ipv4]
		if of == corev1.IPv6Protocol {
			addr = c.backends[i][ipv6]
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{addr.String()}, NodeName: &node})
	}
	_, err := c.Core.DiscoveryV1().EndpointSlices(service.Namespace).Create(ctx, slice, metav1.CreateOptions{})
	return err
}

// temporary is a Service that takes datagrams too and ends with the benchmark.
func (c *course) temporary(b *testing.B, name string, change func(*corev1.Service)) *corev1.Service {
	b.Helper()
	service, err := c.service(b.Context(), name, func(service *corev1.Service) {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
			Name: "datagrams", Protocol: corev1.ProtocolUDP, Port: portLines, TargetPort: intstr.FromInt32(portLines),
		})
		change(service)
	})
	must(b, err)
	b.Cleanup(func() {
		must(b, c.Core.CoreV1().Services(scenario.Namespace).Delete(context.Background(), name, metav1.DeleteOptions{}))
	})
	return service
}

// balanceByKubeProxy makes a Service whose status says that kube-proxy has its addresses, and leads the client's packets for
// each of them to a node, as an announcement would.
func (c *course) balanceByKubeProxy(b *testing.B) {
	b.Helper()
	ctx := within(b.Context(), b)
	service := c.temporary(b, "bench-kube-proxy", func(service *corev1.Service) {
		class := "example.com/nobody"
		service.Spec.LoadBalancerClass = &class
	})
	mode := corev1.LoadBalancerIPModeVIP
	for _, way := range []struct {
		name, node string
		to         addresses
	}{{pathIPTables, nodeIPTables, addressIPTables}, {pathNFTables, nodeNFTables, addressNFTables}} {
		node := c.addressesOf(b, way.node)
		for family, addr := range way.to {
			service.Status.LoadBalancer.Ingress = append(service.Status.LoadBalancer.Ingress,
				corev1.LoadBalancerIngress{IP: addr.String(), IPMode: &mode})
			_, err := c.Output(ctx, "client", "ip", "route", "replace", addr.String(), "via", node[family].String())
			must(b, err)
		}
		c.add(way.name, way.to)
	}
	_, err := c.Core.CoreV1().Services(scenario.Namespace).UpdateStatus(ctx, service, metav1.UpdateOptions{})
	must(b, err)
}

// balanceByVIPs makes a Service for each forwarding, and one more whose VIP is beside kube-proxy in mode iptables. From a
// network namespace of its own Fairlead masquerades only.
func (c *course) balanceByVIPs(b *testing.B) {
	b.Helper()
	speakers, err := c.Core.AppsV1().DaemonSets(scenario.SystemNamespace).Get(b.Context(), "fairlead-speaker", metav1.GetOptions{})
	must(b, err)
	isolated := strings.Contains(fmt.Sprint(speakers.Spec.Template.Spec.Containers[0].Args), "--placement=isolated")
	for _, way := range keepalived {
		if !isolated || way.path == masquerade {
			c.balanceByVIP(b, nodeVIP, way.path, way.path, []string{pathDirect, pathKeepalived + way.path, pathNFTables, pathIPTables})
		}
	}
	c.balanceByVIP(b, nodeVIPIPTables, "masquerade-beside-iptables", masquerade, []string{pathIPTables})
}

func (c *course) balanceByVIP(b *testing.B, node, name, forwarding string, rivals []string) {
	b.Helper()
	pool := poolWith(b, c.Scenario, func(spec *v1alpha1.IPPoolSpec) {
		spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: node}}
	})
	service := c.temporary(b, "bench-"+name, func(service *corev1.Service) {
		service.Annotations = map[string]string{source.AnnotationPool: pool, source.AnnotationForwarding: forwarding}
	})
	ctx := within(b.Context(), b)
	vips, err := c.Addresses(ctx, service.Name, int(bothFamilies))
	must(b, err)
	var to addresses
	for _, vip := range vips {
		if holder, err := c.Holder(ctx, vip, ""); err != nil || holder != node {
			b.Fatalf("VIP %s is held by %s, want %s: %v", vip, holder, node, err)
		}
		if vip.Is4() {
			to[ipv4] = vip
		} else {
			to[ipv6] = vip
		}
	}
	c.add(pathVIP+name, to, rivals...)
}

// fillPatience is how long every kube-proxy together may take for 1,000 Services: the lab's one processor is theirs in turn.
const fillPatience = 10 * time.Minute

// fill makes other Services, of the same servers, until there are so many, and waits until every kube-proxy has the last of
// them.
func (c *course) fill(b *testing.B, others int) {
	b.Helper()
	addresses := make([]string, others)
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(16)
	for i := len(c.others); i < others; i++ {
		group.Go(func() error {
			service, err := c.service(ctx, fmt.Sprintf("other-%d", i), func(service *corev1.Service) {
				single(service)
				service.Spec.Type = corev1.ServiceTypeClusterIP
			})
			if err == nil {
				addresses[i] = service.Spec.ClusterIP
			}
			return err
		})
	}
	must(b, group.Wait())
	c.others = append(c.others, addresses[len(c.others):]...)
	programmed, cancel := context.WithTimeoutCause(b.Context(), fillPatience, fmt.Errorf("waited %v", fillPatience))
	defer cancel()
	nodes, err := c.Nodes(b.Context())
	must(b, err)
	for _, node := range nodes {
		command := []string{"nft", "list", "map", "ip", "kube-proxy", "service-ips"}
		if node == nodeIPTables || node == nodeVIPIPTables {
			command = []string{"iptables-save", "-t", "nat"}
		}
		must(b, scenario.Until(programmed, func() error {
			rules, err := c.Output(programmed, node, command...)
			if err != nil {
				return err
			}
			for _, addr := range c.others {
				if !strings.Contains(rules, addr) {
					time.Sleep(time.Second) // listing them takes the processor that kube-proxy needs
					return errors.New("kube-proxy of node " + node + " has not programmed " + addr)
				}
			}
			return nil
		}))
	}
}
