package main

import (
	"context"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/gossip"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/speaker"
)

// serve wires a speaker and runs it until the context ends.
func serve(ctx context.Context, config Config) error {
	logger := klog.FromContext(ctx).WithValues("node", config.Node)
	ctx = klog.NewContext(ctx, logger)
	layers, err := openLayers(ctx, &config.Host)
	if err != nil {
		return err
	}
	defer layers.close()
	if err := layers.leaveOther(ctx); err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	clients, leaseClients, err := newClients(config.Kube)
	if err != nil {
		return err
	}
	recorder, err := kube.NewEventRecorder(ctx, clients.Core, "fairlead-speaker", config.Node)
	if err != nil {
		return err
	}
	defer recorder.Close()

	var agent *speaker.Speaker
	announcer := newAnnouncer(logger, &agent)
	membership, err := newGossip(config, registry, &agent)
	if err != nil {
		return err
	}
	agent, err = speaker.New(speaker.Config{
		Node: config.Node, Namespace: config.Namespace, Clients: clients, LeaseClients: leaseClients, Recorder: recorder,
		Kernel:          layers.kernel(announcer),
		Isolated:        config.Host.isolated(),
		WatchInterfaces: layers.host.Watch,
		Timing:          election.DefaultTiming(),
		Policy:          election.Policy(config.OnAPIOutage),
		HandOver:        config.OnStop == onStopHandOver,
		Metrics:         speaker.NewMetrics(registry),
		ElectionMetrics: election.NewMetrics(registry),
		Gossip:          membership,
	})
	if err != nil {
		return err
	}
	// The address is this node's: a second speaker on it fails here, before it could disturb the first.
	ops, err := kube.ListenOps(kube.OpsConfig{Address: config.MetricsAddress, Gatherer: registry, Ready: agent.Ready})
	if err != nil {
		return err
	}
	logger.Info("Speaker starts")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return ops.Run(ctx) })
	group.Go(func() error { return agent.Run(ctx) })
	if membership != nil {
		keys := kube.KeysConfig{
			Client: clients.Core, Namespace: config.Namespace, Name: config.GossipSecret, Use: membership.SetKeys, Recorder: recorder,
		}
		group.Go(func() error { return kube.WatchKeys(ctx, keys) })
	}
	return group.Wait()
}

// newAnnouncer makes the announcer of an agent that there is by the time it is told to announce anything.
func newAnnouncer(logger klog.Logger, agent **speaker.Speaker) *announce.Announcer {
	return announce.New(announce.Config{
		Allowed: func(addr netip.Addr) bool { return (*agent).MayAnnounce(addr) },
		Seen:    func(sighting announce.Sighting) { (*agent).Seen(sighting) },
		OnError: func(binding model.Binding, err error) {
			if err != nil {
				logger.Error(err, "Cannot announce", "vip", binding.Addr, "interface", binding.Interface)
			}
		},
	})
}

// newGossip makes this node's membership, for an agent that there is by the time it runs; nil if it is turned off.
func newGossip(config Config, registry prometheus.Registerer, agent **speaker.Speaker) (*gossip.Gossip, error) {
	if config.GossipPort == 0 {
		return nil, nil
	}
	return gossip.New(gossip.Config{
		Node: config.Node, Port: config.GossipPort, Clock: func() time.Duration { return time.Duration(election.BootTime()) },
		Address: func() netip.Addr { return (*agent).Address() }, Peers: func() map[string]netip.Addr { return (*agent).Peers() },
		HasAPI: func(ctx context.Context) bool { return (*agent).HasAPI(ctx) },
		Spares: func(peer string) string { return (*agent).Spares(peer) }, Notify: func() { (*agent).Heard() },
		Metrics: gossip.NewMetrics(registry),
	})
}

// newClients makes two sets of clients: renewals must not queue behind anything else.
func newClients(config kube.ClientConfig) (all, leases *kube.Clients, err error) {
	rest, err := config.RESTConfig()
	if err != nil {
		return nil, nil, err
	}
	rest = kube.Patient(rest)
	if all, err = kube.NewClients(rest); err != nil {
		return nil, nil, err
	}
	leases, err = kube.NewLeaseClients(rest)
	return all, leases, err
}
