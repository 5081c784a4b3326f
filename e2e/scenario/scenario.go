// Package scenario holds the moves that the demo, the end-to-end tests and the benchmarks make in a cluster: pools, Services
// and pods come and go, and one waits for what follows. It asserts nothing; who calls it does.
package scenario

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/generated/clientset/versioned"
	"github.com/fairlead/fairlead/pkg/source"
)

// Namespace of the Services here, and that of the product.
const (
	Namespace       = metav1.NamespaceDefault
	SystemNamespace = "fairlead-system"
)

// Scenario plays in a cluster.
type Scenario struct {
	cluster.Cluster
	Core     kubernetes.Interface
	Fairlead versioned.Interface
}

// New connects to a cluster as its administrator.
func New(c cluster.Cluster) (*Scenario, error) {
	config, err := c.Kubeconfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 500, 1000
	core, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	fairlead, err := versioned.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return &Scenario{Cluster: c, Core: core, Fairlead: fairlead}, nil
}

// pollEvery is how often conditions are looked at while one waits.
const pollEvery = 10 * time.Millisecond

// Until waits until check returns no error; its last error tells what was missing when the context ended.
func Until(ctx context.Context, check func() error) (err error) {
	for {
		missing := check()
		if missing == nil {
			return nil
		}
		if err == nil || ctx.Err() == nil { // a check that was cut short says nothing
			err = missing
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		case <-time.After(pollEvery):
		}
	}
}

// CreatePool makes an IPPool.
func (s *Scenario) CreatePool(ctx context.Context, name string, addresses ...string) (*v1alpha1.IPPool, error) {
	pool := &v1alpha1.IPPool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, text := range addresses {
		pool.Spec.Addresses = append(pool.Spec.Addresses, v1alpha1.AddressRange(text))
	}
	return s.Fairlead.FairleadV1alpha1().IPPools().Create(ctx, pool, metav1.CreateOptions{})
}

// Service is a dual-stack Service of type LoadBalancer for the pods with label app=NAME, from port 80 to 8080; change may
// alter it before it is created.
func Service(name string, change ...func(*corev1.Service)) *corev1.Service {
	policy := corev1.IPFamilyPolicyPreferDualStack
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: Namespace},
		Spec: corev1.ServiceSpec{
			Type:           corev1.ServiceTypeLoadBalancer,
			IPFamilyPolicy: &policy,
			Selector:       map[string]string{"app": name},
			Ports:          []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}
	for _, apply := range change {
		apply(service)
	}
	return service
}

// CreateService makes a Service.
func (s *Scenario) CreateService(ctx context.Context, service *corev1.Service) (*corev1.Service, error) {
	return s.Core.CoreV1().Services(service.Namespace).Create(ctx, service, metav1.CreateOptions{})
}

// Addresses waits until a Service has count addresses, each to be served by us alone (ipMode Proxy).
func (s *Scenario) Addresses(ctx context.Context, name string, count int) (addresses []netip.Addr, err error) {
	err = Until(ctx, func() error {
		service, err := s.Core.CoreV1().Services(Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		addresses = nil
		for _, ingress := range service.Status.LoadBalancer.Ingress {
			addr, err := netip.ParseAddr(ingress.IP)
			if err != nil {
				return fmt.Errorf("status of Service %s: %w", name, err)
			}
			if ingress.IPMode == nil || *ingress.IPMode != corev1.LoadBalancerIPModeProxy {
				return fmt.Errorf("status of Service %s: ipMode of %s is not Proxy", name, addr)
			}
			addresses = append(addresses, addr)
		}
		if len(addresses) != count {
			return fmt.Errorf("the Service %s has addresses %v, not %d of them", name, addresses, count)
		}
		return nil
	})
	return addresses, err
}

// VIP is the VIP of an address.
func (s *Scenario) VIP(ctx context.Context, addr netip.Addr) (*v1alpha1.VIP, error) {
	return s.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, source.VIPName(addr), metav1.GetOptions{})
}

// Holder waits until a node other than not holds a VIP, as its status says.
func (s *Scenario) Holder(ctx context.Context, addr netip.Addr, not string) (node string, err error) {
	err = Until(ctx, func() error {
		vip, err := s.VIP(ctx, addr)
		if err != nil {
			return err
		}
		if node = vip.Status.Node; node == "" || node == not {
			return fmt.Errorf("VIP %s is held by %q", addr, node)
		}
		return nil
	})
	return node, err
}

// Claims lists the VIPs that have a claim Lease, by name of the VIP.
func (s *Scenario) Claims(ctx context.Context) (names []string, err error) {
	leases, err := s.Core.CoordinationV1().Leases(SystemNamespace).List(ctx, metav1.ListOptions{
		LabelSelector: election.LabelLease + "=" + election.KindClaim,
	})
	if err != nil {
		return nil, err
	}
	for _, lease := range leases.Items {
		names = append(names, lease.Name)
	}
	return names, nil
}

// Nodes lists the names of the nodes that are on.
func (s *Scenario) Nodes(ctx context.Context) (names []string, err error) {
	hosts, err := s.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	for _, host := range hosts {
		if host.Role == cluster.RoleNode && !host.Off {
			names = append(names, host.Name)
		}
	}
	return names, nil
}

// AddWebPods makes pods that answer for a Service, one on each of the nodes named.
func (s *Scenario) AddWebPods(ctx context.Context, app string, nodes ...string) error {
	for i, node := range nodes {
		pod := cluster.Pod{
			Name: app + "-" + strconv.Itoa(i+1), Namespace: Namespace, Node: node,
			Labels: map[string]string{"app": app}, Listen: []string{"http:8080"},
		}
		if _, err := s.AddPod(ctx, pod); err != nil {
			return err
		}
	}
	return nil
}

// URL is that of a web server at an address.
func URL(addr netip.Addr, port int) string {
	return "http://" + net.JoinHostPort(addr.String(), strconv.Itoa(port)) + "/"
}
