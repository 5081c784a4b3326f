package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/product"
)

// stopGrace is how long a process that is asked to stop may take, as a pod's default termination grace period.
const stopGrace = 30 * time.Second

// killGrace is how long a killed process may take to be seen dead.
const killGrace = 5 * time.Second

// fault injects or ends a fault.
func (d *Driver) fault(ctx context.Context, kind cluster.FaultKind, target string) error {
	d.change.Lock()
	defer d.change.Unlock()
	whole := map[cluster.FaultKind]func(context.Context) error{
		cluster.APIDown:         func(context.Context) error { d.api.stop(syscall.SIGKILL, killGrace); return nil },
		cluster.APIUp:           d.apiUp,
		cluster.SlowStore:       d.slowStore,
		cluster.QuickStore:      d.quickStore,
		cluster.KillController:  d.killController,
		cluster.StartController: func(context.Context) error { return start(d.controllers) },
	}
	if act, ok := whole[kind]; ok {
		if target != "" {
			return fmt.Errorf("fault %s has no target", kind)
		}
		return act(ctx)
	}
	act, ok := map[cluster.FaultKind]func(context.Context, *node) error{
		cluster.KillSpeaker:      onSpeaker(func(s *service) error { s.stop(syscall.SIGKILL, killGrace); return nil }),
		cluster.StopSpeaker:      onSpeaker((*service).end),
		cluster.StartSpeaker:     onSpeaker((*service).run),
		cluster.FreezeSpeaker:    onSpeaker((*service).freeze),
		cluster.ThawSpeaker:      onSpeaker((*service).thaw),
		cluster.RestartKubeProxy: onProxy((*service).restart),
		cluster.StopKubeProxy:    onProxy((*service).end),
		cluster.StartKubeProxy:   onProxy((*service).run),
		cluster.PowerOff:         d.powerOff,
		cluster.PowerOn:          d.powerOn,
		cluster.CutAPI:           d.cutAPI,
		cluster.CutLAN:           d.cut(cluster.CutLAN),
		cluster.CutSending:       d.cut(cluster.CutSending),
		cluster.CutReceiving:     d.cut(cluster.CutReceiving),
		cluster.CutCarrier:       d.cutCarrier,
		cluster.Heal:             d.heal,
	}[kind]
	if !ok {
		return fmt.Errorf("no fault is named %s (lab fault --help)", kind)
	}
	n, err := d.node(target)
	if err != nil {
		return err
	}
	if n.off && kind != cluster.PowerOn && kind != cluster.Heal {
		return fmt.Errorf("node %s is powered off: lab fault power-on %s", n.name, n.name)
	}
	return act(ctx, n)
}

func onSpeaker(act func(*service) error) func(context.Context, *node) error {
	return onService(speakerOf, act, "no speaker: this lab runs without the product")
}

func onProxy(act func(*service) error) func(context.Context, *node) error {
	return onService(proxyOf, act, "no kube-proxy: this lab runs with --kube-proxy none")
}

// onService acts on the process that has a name on each node, or says why there is none.
func onService(name func(node string) string, act func(*service) error, none string) func(context.Context, *node) error {
	return func(_ context.Context, n *node) error {
		i := slices.IndexFunc(n.services, func(s *service) bool { return s.name == name(n.name) })
		if i < 0 {
			return fmt.Errorf("node %s has %s", n.name, none)
		}
		return act(n.services[i])
	}
}

// end asks the process to stop, as a rollout does.
func (s *service) end() error {
	s.stop(syscall.SIGTERM, stopGrace)
	return nil
}

// restart returns when the new process has been started.
func (s *service) restart() error { return errors.Join(s.end(), s.run()) }

// proxyOf is the name of a node's kube-proxy, as a process.
func proxyOf(node string) string { return "kube-proxy-" + node }

func start(services []*service) error {
	var err error
	for _, s := range services {
		if state, _, _ := s.status(); state == frozen {
			err = errors.Join(err, s.thaw())
		}
		err = errors.Join(err, s.run())
	}
	return err
}

func (d *Driver) apiUp(ctx context.Context) error {
	if err := d.api.run(); err != nil {
		return err
	}
	return d.awaitAPI(ctx)
}

// killController kills the replica whose name is in the identity of the Lease's holder.
func (d *Driver) killController(ctx context.Context) error {
	lease, err := d.kube.CoordinationV1().Leases(product.Namespace).Get(ctx, product.Controller, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("find the leading controller: read Lease %s: %w", product.Controller, err)
	}
	holder := ""
	if lease.Spec.HolderIdentity != nil {
		holder = *lease.Spec.HolderIdentity
	}
	for _, s := range d.controllers {
		if strings.Contains(holder, s.name) {
			s.stop(syscall.SIGKILL, killGrace)
			return nil
		}
	}
	return fmt.Errorf("the holder of Lease %s is %q, which names no controller replica", product.Controller, holder)
}

// podsOf are the pods on a node.
func (d *Driver) podsOf(n *node) []*pod {
	d.mu.Lock()
	defer d.mu.Unlock()
	var pods []*pod
	for _, p := range d.pods {
		if p.node == n {
			pods = append(pods, p)
		}
	}
	return pods
}

// powerOff silences the node first: nothing that dies gets to say goodbye. Then all of it goes, its kernel's state too.
func (d *Driver) powerOff(ctx context.Context, n *node) error {
	if err := d.remote.Unplug(ctx, n.name); err != nil {
		return err
	}
	for _, s := range n.services {
		s.stop(syscall.SIGKILL, killGrace)
	}
	var err error
	for _, p := range d.podsOf(n) {
		p.service.stop(syscall.SIGKILL, killGrace)
		err = errors.Join(err, d.remote.Delete(ctx, p.Name))
	}
	err = errors.Join(err, d.remote.Delete(ctx, n.name))
	d.mu.Lock()
	defer d.mu.Unlock()
	n.off, n.noAPI, n.noCarrier = true, false, false // they went with its kernel's state and its link
	return err
}

// powerOn is a boot: the same machine with the same pods, without any state.
func (d *Driver) powerOn(ctx context.Context, n *node) error {
	if !n.off {
		return fmt.Errorf("node %s is on", n.name)
	}
	if err := d.addNode(ctx, n.index); err != nil {
		return err
	}
	d.mu.Lock()
	n.off = false
	d.mu.Unlock()
	err := start(n.services)
	for _, p := range d.podsOf(n) {
		if plugged := d.plugPod(ctx, p); plugged != nil {
			err = errors.Join(err, plugged)
			continue
		}
		err = errors.Join(err, p.service.run())
	}
	return err
}
