// Command fairlead-controller gives Services of type LoadBalancer their addresses. It wires pkg/controller to a cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/controller"
	"github.com/fairlead/fairlead/pkg/kube"
)

// component names this program in events, Leases and user agents.
const component = "fairlead-controller"

func main() { os.Exit(run()) }

func run() int {
	defer klog.Flush()
	options, err := parse(os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", component, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	logger := klog.Background().WithName(component)
	if err := serve(klog.NewContext(ctx, logger), options); err != nil {
		logger.Error(err, "Stopped")
		return 1
	}
	return 0
}

// serve runs until ctx ends.
func serve(ctx context.Context, o *options) error {
	config, err := o.client.RESTConfig()
	if err != nil {
		return err
	}
	clients, err := kube.NewClients(kube.Patient(config))
	if err != nil {
		return err
	}
	// Events and the Lease have a rate limit of their own: neither may wait for allocations, nor these for events.
	aside, err := kube.NewClients(config)
	if err != nil {
		return err
	}
	recorder, err := kube.NewEventRecorder(ctx, aside.Core, component, o.hostname)
	if err != nil {
		return err
	}
	defer recorder.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	settings := controller.Config{
		Core: clients.Core, Fairlead: clients.Fairlead, Recorder: recorder, Registry: registry, Rules: o.rules, Workers: o.workers,
		ConfigMaps: o.configMaps,
	}
	if o.gossipSecret != "" {
		settings.GossipSecret = types.NamespacedName{Namespace: o.namespace, Name: o.gossipSecret}
	}
	if o.leaderElect {
		settings.Election = &controller.Election{
			Client: aside.Core, Namespace: o.namespace, Name: component, Identity: o.identity,
		}
	}
	c, err := controller.New(settings)
	if err != nil {
		return err
	}
	ops, err := kube.ListenOps(kube.OpsConfig{Address: o.metricsAddress, Gatherer: registry, Live: c.Live, Ready: c.Ready})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return ops.Run(ctx) })
	group.Go(func() error { return c.Run(ctx) })
	klog.FromContext(ctx).Info("Started", "metrics", ops.Addr().String(), "class", o.rules.Class, "classless", o.rules.Classless, "configMaps", o.configMaps)
	return group.Wait()
}
