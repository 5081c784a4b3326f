package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/control"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// secondPart is the name of the second cluster's subdirectories.
const secondPart = "second"

// addSecond starts another cluster on the LAN, which knows nothing of the first: a control plane on the same host, by other
// ports, nodes with the numbers that follow, and the product from the same manifests. It has no kube-proxy; VIPs need none.
// It is a driver of its own that shares the machines, and answers on a socket of its own.
func (d *Driver) addSecond(ctx context.Context, nodes int) (at cluster.SecondCluster, err error) {
	d.change.Lock()
	defer d.change.Unlock()
	if err := d.checkSecond(nodes); err != nil {
		return at, err
	}
	second := &Driver{
		config: d.config, began: time.Now(), local: d.local, remote: d.remote, died: d.died,
		locals: map[string]bool{topology.ControlPlane: true}, numbers: map[string]int{},
		before: counts{nodes: d.config.Nodes, controllers: len(d.controllers)},
	}
	second.config.Nodes, second.config.Progress = nodes, nil
	if second.dir, err = d.dir.inner(secondPart); err != nil {
		return at, err
	}
	if err := second.setupBeside(ctx); err != nil {
		// The caller may be gone, and what was made has to go all the same.
		err = errors.Join(err, second.remove(context.WithoutCancel(ctx)))
		return at, fmt.Errorf("second cluster: %w (logs: %s)", err, second.dir.logs())
	}
	d.second = second
	d.progress("second cluster ready: %d nodes (%s)", nodes, second.elapsed())
	return cluster.SecondCluster{
		Socket: second.dir.socket(), Kubeconfig: second.plane.AdminKubeconfig(), Logs: second.dir.logs(),
	}, nil
}

var errIsSecond = errors.New("this is the second cluster, and there is no third: ask the first, by what FAIRLEAD_LAB was before")

// checkSecond says why there cannot be a second cluster with so many nodes.
func (d *Driver) checkSecond(nodes int) error {
	room := topology.MaxNodes - d.config.Nodes
	switch {
	case d.before.nodes > 0:
		return errIsSecond
	case d.second != nil:
		return errors.New("there is a second cluster already: lab second delete")
	case nodes < 1 || nodes > room:
		return fmt.Errorf("%d nodes of a second cluster: want 1 to %d", nodes, room)
	case d.config.Product == ProductNone:
		return errors.New("this lab runs without the product (--product none): a second cluster is for nothing else")
	}
	return nil
}

// setupBeside is setup where there is a fabric already.
func (d *Driver) setupBeside(ctx context.Context) (err error) {
	if d.plane, err = control.New(d.dir.state(), d.config.Kubernetes, d.config.Families, 1); err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.addNodes(groupCtx) })
	group.Go(func() error { return d.setupControlPlane(groupCtx) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := d.install(ctx); err != nil {
		return fmt.Errorf("product: %w", err)
	}
	d.hangUp, err = d.serve()
	return err
}

// deleteSecond removes the second cluster. One that is not there is no error.
func (d *Driver) deleteSecond(ctx context.Context) error {
	d.change.Lock()
	defer d.change.Unlock()
	if d.before.nodes > 0 {
		return errIsSecond
	}
	if d.second == nil {
		return nil
	}
	err := d.second.remove(ctx)
	d.second = nil
	return err
}

// remove ends a cluster whose lab goes on, and removes its hosts and its state. Its logs stay.
func (d *Driver) remove(ctx context.Context) (err error) {
	d.close()
	for _, p := range d.listPods() {
		err = errors.Join(err, d.remote.Delete(ctx, p.Name))
	}
	for _, i := range d.nodeNumbers() {
		err = errors.Join(err, d.remote.Delete(ctx, topology.Node(i)))
	}
	delete(d.locals, topology.ControlPlane)
	for host := range d.locals {
		err = errors.Join(err, d.local.Delete(host))
	}
	return errors.Join(err, os.RemoveAll(d.dir.state()))
}
