package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/e2e/lab/control"
	"github.com/fairlead/fairlead/e2e/lab/guest"
	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// apiTimeout is how long the API server may take; with a cold page cache it needs most of a minute on a slow disk.
const apiTimeout = 3 * time.Minute

// setup builds the lab. Its errors begin with the step that failed.
func (d *Driver) setup(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.setupFabric(groupCtx) })
	group.Go(func() error { return d.setupControlPlane(groupCtx) })
	if err := group.Wait(); err != nil {
		return err
	}
	group, groupCtx = errgroup.WithContext(ctx)
	group.Go(func() error { return d.startProxies(groupCtx) })
	if d.config.Product != ProductNone {
		group.Go(func() error {
			if err := d.install(groupCtx); err != nil {
				return fmt.Errorf("product: %w", err)
			}
			return nil
		})
	}
	return group.Wait()
}

// prepare finds or builds what the lab is made of, before anything of it runs.
func (d *Driver) prepare(ctx context.Context) error {
	if err := preflight(ctx, d.config.Root, d.config.Progress); err != nil {
		return err
	}
	kernel, err := d.chooseKernel(ctx)
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	d.config.Kernel = kernel
	if d.config.Kubernetes == "" {
		if d.config.Kubernetes, err = build(ctx, d.config.Root, "kubernetes", d.config.Progress); err != nil {
			return fmt.Errorf("kubernetes: %w", err)
		}
	}
	if d.config.Kubernetes, err = filepath.Abs(d.config.Kubernetes); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	if err := os.Symlink(d.config.Kubernetes, filepath.Join(d.dir.bin(), "kubectl")); err != nil {
		return fmt.Errorf("kubernetes: link kubectl: %w", err)
	}
	if d.config.Product != ProductNone {
		if err := d.checkProduct(); err != nil {
			return fmt.Errorf("product: %w", err)
		}
	}
	if d.plane, err = control.New(d.dir.state(), d.config.Kubernetes, d.config.Families, 0); err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	return d.addControlPlaneHost()
}

// addControlPlaneHost makes the control plane's namespace, with the uplink to the fabric in it. On the running kernel the
// fabric is another namespace here.
func (d *Driver) addControlPlaneHost() error {
	uplink := machine.Link{Name: guest.Tap, Kind: machine.Tap}
	if d.config.Kernel == HostKernel {
		if err := d.addLocal(machine.Host{Name: topology.Fabric}); err != nil {
			return fmt.Errorf("fabric: %w", err)
		}
		uplink = machine.Link{
			Name: "fabric0", Kind: machine.Veth, Peer: machine.Peer{Host: topology.Fabric, Name: nativeUplink},
		}
	}
	host := machine.Host{Name: topology.ControlPlane, Network: d.config.Families.ControlPlaneNetwork(uplink)}
	if err := d.addLocal(host); err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	return nil
}

// setupFabric starts the agent, in a guest or here, and makes every host of the LAN.
func (d *Driver) setupFabric(ctx context.Context) error {
	if err := d.startAgent(ctx); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	f := d.config.Families
	if err := d.remote.Configure(ctx, topology.Fabric, f.FabricNetwork()); err != nil {
		return fmt.Errorf("fabric: %w", err)
	}
	if err := d.do(ctx, topology.Fabric, lanRules(), "nft", "-f", "-"); err != nil {
		return fmt.Errorf("fabric: %w", err)
	}
	if err := d.addNodes(ctx); err != nil {
		return fmt.Errorf("fabric: %w", err)
	}
	for _, host := range []machine.Host{f.ClientHost(), f.RouterHost(), f.FarHost()} {
		if err := d.remote.Add(ctx, host); err != nil {
			return fmt.Errorf("fabric: %w", err)
		}
	}
	if err := d.remote.Configure(ctx, topology.Router, f.RouterFarNetwork()); err != nil {
		return fmt.Errorf("fabric: %w", err)
	}
	if err := d.placeProxy(ctx); err != nil {
		return fmt.Errorf("kube-proxy: %w", err)
	}
	d.progress("network ready: %d nodes, client, router, far (%s)", d.config.Nodes, d.elapsed())
	return nil
}

// setupControlPlane starts etcd, the API server and the controllers, and makes the Node objects.
func (d *Driver) setupControlPlane(ctx context.Context) error {
	on := func(argv []string) machine.Command {
		return machine.Command{Host: topology.ControlPlane, Argv: argv, Urgent: true}
	}
	var err error
	if d.etcd, err = d.service("etcd", on(d.plane.Etcd())); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	if d.api, err = d.service("kube-apiserver", on(d.plane.APIServer())); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	config := d.plane.RESTConfig()
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return d.local.Dial(ctx, topology.ControlPlane, network, address)
	}
	// A proxy of the host's environment is not reachable from the lab, and nothing in the lab is reachable by it.
	config.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	if d.kube, err = kubernetes.NewForConfig(config); err != nil {
		return fmt.Errorf("client of the API server: %w", err)
	}
	if err := d.awaitAPI(ctx); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	d.progress("api server ready (%s)", d.elapsed())
	if _, err := d.service("kube-controller-manager", on(d.plane.ControllerManager())); err != nil {
		return fmt.Errorf("kube-controller-manager: %w", err)
	}
	for _, i := range d.nodeNumbers() {
		if err := d.postNode(ctx, i); err != nil {
			return fmt.Errorf("node %s: %w", topology.Node(i), err)
		}
	}
	return nil
}

// awaitAPI waits until the API server is ready.
func (d *Driver) awaitAPI(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	var last error
	for {
		attempt, stop := context.WithTimeout(ctx, 2*time.Second)
		last = d.kube.Discovery().RESTClient().Get().AbsPath("/readyz").Do(attempt).Error()
		stop()
		if last == nil {
			return nil
		}
		if _, pid, restarts := d.api.status(); pid == 0 || restarts > 0 {
			return fmt.Errorf("it ended while it started (log: %s)", d.api.log)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("not ready after %s (log: %s)", apiTimeout, d.api.log), last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// startProxies starts kube-proxy on every node and waits until each has programmed its node.
func (d *Driver) startProxies(ctx context.Context) error {
	if d.config.Proxy.None() {
		return nil
	}
	proxies := make([]*service, len(d.nodes))
	for i, n := range d.nodes {
		mode := d.config.Proxy.Of(n.index)
		if mode == "none" {
			continue
		}
		argv := d.plane.Proxy(n.name, mode, d.config.ProxyArgs)
		argv[0] = d.proxyBinary
		command := machine.Command{Host: n.name, Argv: argv}
		if d.config.Kernel != HostKernel {
			command.Env = append(d.env(), "MODPROBE_OPTIONS=-d "+modules)
		}
		var err error
		if proxies[i], err = d.nodeService(n, proxyOf(n.name), command); err != nil {
			return fmt.Errorf("kube-proxy: %w", err)
		}
	}
	for i, n := range d.nodes {
		if proxies[i] == nil {
			continue
		}
		address := topology.Addresses(d.config.Families.NodeAddresses(n.index))[0]
		url := fmt.Sprintf("http://%s/healthz", netip.AddrPortFrom(address, control.ProxyHealthPort))
		if err := d.awaitReady(ctx, proxies[i], url); err != nil {
			return fmt.Errorf("kube-proxy: %w", err)
		}
	}
	d.progress("kube-proxy ready, mode %s (%s)", d.config.Proxy, d.elapsed())
	return nil
}

// modules is where modprobe of a guest's kube-proxy finds its kernel's modules.
const modules = "/dev/shm/modules"

// tellModules says that IPVS is built in. kube-proxy in nftables mode empties the IPVS table when it starts, but only where
// modprobe ip_vs succeeds (pkg/proxy/ipvs/cleanup.go), as it does on a node.
const tellModules = `set -e
kernel=$(uname -r)
mkdir -p "$0/lib/modules/$kernel"
cd "$0/lib/modules/$kernel"
echo kernel/net/netfilter/ipvs/ip_vs.ko >modules.builtin
touch modules.order modules.builtin.modinfo
depmod -b "$0" "$kernel"
`

// placeProxy puts kube-proxy's program where it starts fastest: in a guest its pages are kept for a file in memory, but not
// for one of the host's. It also prepares what kube-proxy finds on a node and not in a guest.
func (d *Driver) placeProxy(ctx context.Context) error {
	d.proxyBinary = d.config.Kubernetes
	if d.config.Kernel == HostKernel || d.config.Proxy.None() {
		return nil
	}
	d.proxyBinary = "/dev/shm/kubernetes"
	if err := d.do(ctx, topology.Fabric, nil, "cp", d.config.Kubernetes, d.proxyBinary); err != nil {
		return err
	}
	return d.do(ctx, topology.Fabric, nil, "sh", "-c", tellModules, modules)
}

// nodeService starts a background process that belongs to a node, as its kubelet would.
func (d *Driver) nodeService(n *node, name string, command machine.Command) (*service, error) {
	s, err := d.service(name, command)
	d.mu.Lock()
	defer d.mu.Unlock()
	n.services = append(n.services, s)
	return s, err
}
