package driver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/topology"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// serve answers on the run's socket until stop is called.
func (d *Driver) serve() (stop func(), err error) {
	listener, err := net.Listen("unix", d.dir.socket())
	if err != nil {
		return nil, fmt.Errorf("listen on the run's socket: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := wire.Serve(ctx, listener, d.handlers()); err != nil {
			d.progress("%v", err)
		}
	}()
	return func() { cancel(); <-done }, nil
}

func (d *Driver) handlers() map[string]wire.Handler {
	return map[string]wire.Handler{
		"hosts": wire.Handle(func(context.Context, any) ([]cluster.Host, error) { return d.hosts(), nil }),
		"exec":  d.exec,
		"pod-add": wire.Handle(func(ctx context.Context, p cluster.Pod) (cluster.Pod, error) {
			return d.addPod(ctx, p)
		}),
		"pod-ready": wire.Handle(func(ctx context.Context, a cluster.PodReadyArgs) (any, error) {
			return nil, d.setPodReady(ctx, a.Name, a.Ready)
		}),
		"pod-terminate": wire.Handle(func(ctx context.Context, name string) (any, error) { return nil, d.terminatePod(ctx, name) }),
		"pod-delete":    wire.Handle(func(ctx context.Context, name string) (any, error) { return nil, d.deletePod(ctx, name) }),
		"pod-list":      wire.Handle(func(context.Context, any) ([]cluster.Pod, error) { return d.listPods(), nil }),
		"fault": wire.Handle(func(ctx context.Context, a cluster.FaultArgs) (any, error) {
			return nil, d.fault(ctx, a.Kind, a.Target)
		}),
		"processes": wire.Handle(func(ctx context.Context, _ any) ([]cluster.Process, error) { return d.processes(ctx) }),
		"second-add": wire.Handle(func(ctx context.Context, nodes int) (cluster.SecondCluster, error) {
			return d.addSecond(ctx, nodes)
		}),
		"second-delete": wire.Handle(func(ctx context.Context, _ any) (any, error) { return nil, d.deleteSecond(ctx) }),
	}
}

// exec runs a command on a host for a client.
func (d *Driver) exec(ctx context.Context, conn *wire.Conn, raw json.RawMessage) (any, error) {
	var args cluster.ExecArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, fmt.Errorf("decode arguments: %w", err)
	}
	command := machine.Command{Host: args.Host, Argv: args.Command, Dir: args.Dir, Env: append(d.env(),
		"KUBECONFIG="+d.plane.AdminKubeconfig(), "TERM="+args.Term,
		cluster.Socket+"="+d.dir.socket(), cluster.Logs+"="+d.dir.logs())}
	return wire.ServeProcess(conn, func(stdio wire.Stdio) (wire.Process, error) {
		return d.startOn(ctx, command, stdio)
	})
}

// hosts lists all hosts, those on the LAN first.
func (d *Driver) hosts() []cluster.Host {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.config.Families
	var hosts []cluster.Host
	add := func(name string, role cluster.Role, addresses []netip.Addr) {
		hosts = append(hosts, cluster.Host{Name: name, Role: role, Addresses: addresses})
	}
	for _, n := range d.nodes {
		add(n.name, cluster.RoleNode, topology.Addresses(f.NodeAddresses(n.index)))
		hosts[len(hosts)-1].Off = n.off
	}
	router := append(hostAddresses(f.RouterHost()), networkAddresses(f.RouterFarNetwork())...)
	add(topology.Client, cluster.RoleClient, hostAddresses(f.ClientHost()))
	add(topology.Router, cluster.RoleRouter, router)
	add(topology.Far, cluster.RoleClient, hostAddresses(f.FarHost()))
	add(topology.Fabric, cluster.RoleFabric, append(networkAddresses(f.FabricNetwork()), topology.Addresses(f.Uplink())...))
	add(topology.ControlPlane, cluster.RoleControlPlane, topology.Addresses(f.API()))
	for k, s := range d.controllers {
		add(s.command.Host, cluster.RoleController, networkAddresses(f.ControllerHost("", d.before.controllers+k).Network))
	}
	for _, p := range d.pods {
		add(p.Name, cluster.RolePod, p.Addresses)
		hosts[len(hosts)-1].Node, hosts[len(hosts)-1].Off = p.Node, p.node.off
	}
	return hosts
}

func networkAddresses(network machine.Network) []netip.Addr {
	return hostAddresses(machine.Host{Network: network})
}

func (d *Driver) listPods() []cluster.Pod {
	d.mu.Lock()
	defer d.mu.Unlock()
	pods := make([]cluster.Pod, 0, len(d.pods))
	for _, p := range d.pods {
		pods = append(pods, p.Pod)
	}
	return pods
}

// processes lists the services with the memory of those that run.
func (d *Driver) processes(ctx context.Context) ([]cluster.Process, error) {
	d.mu.Lock()
	services := slices.Clone(d.services)
	d.mu.Unlock()
	processes := make([]cluster.Process, 0, len(services))
	var remote []int
	for _, s := range services {
		p := cluster.Process{Name: s.name, Host: s.command.Host, Log: s.log}
		p.State, p.PID, p.Restarts = s.status()
		if p.PID != 0 && d.isLocal(p.Host) {
			p.RSS = machine.RSS(p.PID)
		} else if p.PID != 0 {
			remote = append(remote, p.PID)
		}
		processes = append(processes, p)
	}
	sizes, err := d.remote.RSS(ctx, remote)
	if err != nil {
		return nil, fmt.Errorf("read the processes' memory: %w", err)
	}
	for i, p := range processes {
		if p.PID != 0 && !d.isLocal(p.Host) {
			processes[i].RSS = sizes[p.PID]
		}
	}
	slices.SortStableFunc(processes, func(a, b cluster.Process) int { return cmp.Compare(a.Name, b.Name) })
	return processes, nil
}
