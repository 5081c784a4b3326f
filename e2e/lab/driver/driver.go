// Package driver runs a lab: a cluster's control plane on this host, its nodes behind an agent, the product on them, and
// one command beside it all. It owns everything that bears the run's identity (processes, network namespaces, files) and
// removes it at the end; it touches nothing else on the host.
package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/agent"
	"github.com/fairlead/fairlead/e2e/lab/control"
	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/topology"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// Products that a lab can run.
const (
	ProductFairlead = "fairlead"
	ProductNone     = "none"
)

// HostKernel in place of a kernel's path keeps the lab on the running one.
const HostKernel = "host"

// Config is a run.
type Config struct {
	// Lab is this program, Root the module it belongs to.
	Lab, Root string
	// Kernel is a User-Mode Linux binary, HostKernel, or empty for the running kernel if it has IPVS and a built one if
	// not. Kubernetes is empty for a built one.
	Kernel, Kubernetes string
	Memory             string
	Nodes              int
	Families           topology.Families
	Proxy              control.ProxyModes
	ProxyArgs          []string
	Product            string
	// Manifests is a kustomization, Programs the directory of the product's programs.
	Manifests, Programs string
	KeepLogs            bool
	// Progress receives a line per step.
	Progress io.Writer
	Command  []string
	// Env is the command's environment, to which the lab's own is added.
	Env []string
}

// Validate says what is wrong with a configuration.
func (c Config) Validate() error {
	switch {
	case len(c.Command) == 0:
		return errors.New("no COMMAND is given")
	case c.Nodes < 1 || c.Nodes > topology.MaxNodes:
		return fmt.Errorf("%d nodes: want 1 to %d", c.Nodes, topology.MaxNodes)
	case c.Product != ProductFairlead && c.Product != ProductNone:
		return fmt.Errorf("product %q: want %s or %s", c.Product, ProductFairlead, ProductNone)
	}
	return nil
}

// Driver is a running lab.
type Driver struct {
	config Config
	began  time.Time
	dir    *runDir
	local  *machine.Machine
	// locals are the hosts of local; all others are the agent's.
	locals map[string]bool
	remote *agent.Client
	plane  *control.Plane
	kube   kubernetes.Interface
	// died is closed when the agent's side is lost.
	died      chan struct{}
	etcd, api *service
	// quicken ends what slows etcd down; nil while nothing does.
	quicken func() error
	// proxyBinary is the Kubernetes binary as nodes see it.
	proxyBinary string

	// change is held by whoever changes hosts, pods or services; mu guards the fields below for readers.
	change      sync.Mutex
	mu          sync.Mutex
	services    []*service
	nodes       []*node
	controllers []*service
	pods        []*pod
	numbers     map[string]int

	// hangUp ends what answers on the socket.
	hangUp func()
	// second is another cluster on the LAN, while there is one; before is what comes before it.
	second *Driver
	before counts
}

// counts is how many nodes and controllers the clusters before one have: its own are counted from there.
type counts struct{ nodes, controllers int }

// node is what the driver knows of a node.
type node struct {
	name             string
	index            int
	off              bool
	noAPI, noCarrier bool
	cuts             map[cluster.FaultKind]bool // from the LAN
	services         []*service
}

// Run sets a lab up, runs the command in it, removes the lab and returns the command's status.
func Run(ctx context.Context, config Config) (status int, err error) {
	if err := config.Validate(); err != nil {
		return 0, err
	}
	d := &Driver{
		config: config, began: time.Now(), locals: map[string]bool{}, died: make(chan struct{}), numbers: map[string]int{},
	}
	if d.dir, err = newRunDir(config.Lab); err != nil {
		return 0, err
	}
	d.local = machine.New(d.dir.prefix())
	ended := false
	defer func() {
		d.close()
		keep := config.KeepLogs || !ended || status != 0
		if closeErr := d.dir.close(keep); closeErr != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", closeErr))
		}
		if keep {
			d.progress("logs are kept in %s", d.dir.logs())
		}
	}()
	preparing, done := untilSignal(ctx)
	err = d.setup(preparing)
	interrupted := context.Cause(preparing)
	done()
	if interrupted != nil {
		return 0, interrupted
	}
	if err != nil {
		return 0, fmt.Errorf("set-up: %w (logs: %s)", err, d.dir.logs())
	}
	if d.hangUp, err = d.serve(); err != nil {
		return 0, fmt.Errorf("set-up: %w", err)
	}
	d.progress("ready (%s)", d.elapsed())
	status, err = d.command()
	ended = err == nil
	return status, err
}

func (d *Driver) progress(format string, args ...any) {
	if d.config.Progress != nil {
		_, _ = fmt.Fprintf(d.config.Progress, "lab: "+format+"\n", args...)
	}
}

// elapsed is the time since the run began.
func (d *Driver) elapsed() string { return fmt.Sprintf("%.1f s", time.Since(d.began).Seconds()) }

// close kills every service; what else runs dies with its namespace.
func (d *Driver) close() {
	if d.hangUp != nil {
		d.hangUp()
	}
	if d.second != nil {
		d.second.close()
	}
	d.mu.Lock()
	services := d.services
	d.mu.Unlock()
	var stopping sync.WaitGroup
	for _, s := range services {
		stopping.Go(func() { s.stop(syscall.SIGKILL, time.Second) })
	}
	stopping.Wait()
}

// startOn starts a command on a host, here or behind the agent.
func (d *Driver) startOn(ctx context.Context, command machine.Command, stdio wire.Stdio) (wire.Process, error) {
	if d.isLocal(command.Host) {
		return d.local.Start(command, stdio)
	}
	return d.remote.Start(ctx, command, stdio)
}

func (d *Driver) isLocal(host string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.locals[host]
}

func (d *Driver) addLocal(host machine.Host) error {
	if err := d.local.Add(host); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.locals[host.Name] = true
	return nil
}

// service starts a background process on a host, under a name of its own.
func (d *Driver) service(name string, command machine.Command) (*service, error) {
	if command.Env == nil {
		command.Env = d.env()
	}
	if command.Dir == "" {
		command.Dir = "/"
	}
	s := newService(name, d.dir.log(name), d.startOn, command)
	d.mu.Lock()
	d.services = append(d.services, s)
	d.mu.Unlock()
	return s, s.run()
}

// env is the environment of what runs on hosts.
func (d *Driver) env() []string {
	return []string{"PATH=" + d.dir.bin() + ":" + agent.Path, "HOME=" + d.dir.state(), "LANG=C.UTF-8"}
}

// do runs a command on a host; what it writes is only wanted if it fails.
func (d *Driver) do(ctx context.Context, host string, in io.Reader, argv ...string) error {
	var errs limited
	command := machine.Command{Host: host, Argv: argv, Env: d.env(), Dir: "/"}
	if host == topology.ControlPlane {
		command.Env = append(command.Env, "KUBECONFIG="+d.plane.AdminKubeconfig())
	}
	process, err := d.startOn(ctx, command, wire.Stdio{In: in, Err: &errs})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = process.Signal(syscall.SIGKILL) })
	defer stop()
	status, err := process.Wait()
	if err == nil && status != 0 {
		err = fmt.Errorf("%s on %s: exit status %d: %s", filepath.Base(argv[0]), host, status, errs.line())
	}
	return err
}

// exists tells whether a file is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
