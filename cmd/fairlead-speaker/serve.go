package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/host"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
	"github.com/fairlead/fairlead/pkg/speaker"
)

// serve wires a speaker and runs it until the context ends.
func serve(ctx context.Context, config Config) error {
	logger := klog.FromContext(ctx).WithValues("node", config.Node)
	ctx = klog.NewContext(ctx, logger)
	layers, err := openLayers()
	if err != nil {
		return err
	}
	defer layers.close()
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
	announcer := announce.New(announce.Config{
		Allowed: func(addr netip.Addr) bool { return agent.MayAnnounce(addr) },
		OnError: func(binding model.Binding, err error) {
			if err != nil {
				logger.Error(err, "Cannot announce", "vip", binding.Addr, "interface", binding.Interface)
			}
		},
	})
	agent, err = speaker.New(speaker.Config{
		Node: config.Node, Namespace: config.Namespace, Clients: clients, LeaseClients: leaseClients, Recorder: recorder,
		Kernel: speaker.Kernel{
			Sysctls: &host.Sysctls{Root: config.ProcSysNet}, Table: layers.table, Servers: layers.servers,
			Addresses: layers.addresses, Announcer: announcer,
		},
		WatchInterfaces: layers.addresses.Watch,
		Timing:          election.DefaultTiming(),
		Metrics:         speaker.NewMetrics(registry),
		ElectionMetrics: election.NewMetrics(registry),
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
	return group.Wait()
}

// dialTimeout is longer than any renewal is worth waiting for.
const dialTimeout = 5 * time.Second

// newClients makes two sets of clients: renewals must not queue behind anything else, on a connection or in a rate limit.
func newClients(config kube.ClientConfig) (all, leases *kube.Clients, err error) {
	rest, err := config.RESTConfig()
	if err != nil {
		return nil, nil, err
	}
	if all, err = kube.NewClients(rest); err != nil {
		return nil, nil, err
	}
	rest.QPS = -1
	// client-go shares connections between clients of equal configuration: a dialer of its own makes these differ.
	rest.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext
	leases, err = kube.NewClients(rest)
	return all, leases, err
}

// layers are the kernel's parts that need to be opened.
type layers struct {
	servers   *ipvs.Kernel
	table     *nft.Table
	addresses *netif.Kernel
}

// openLayers checks that this node has what the datapath needs and opens it. Its error lists all that is missing.
func openLayers() (*layers, error) {
	var out layers
	findings := host.Check(host.Config{
		IPVS:     func() (err error) { out.servers, err = ipvs.New(ipvs.Config{}); return err },
		NFTables: func() (err error) { out.table, err = nft.New(); return err },
	})
	if missing := host.Missing(findings); len(missing) > 0 {
		out.close()
		return nil, errors.New(host.Render(missing))
	}
	addresses, err := netif.New()
	if err != nil {
		out.close()
		return nil, fmt.Errorf("open the node's interfaces: %w", err)
	}
	out.addresses = addresses
	return &out, nil
}

func (l *layers) close() {
	if l.servers != nil {
		l.servers.Close()
	}
	if l.addresses != nil {
		l.addresses.Close()
	}
}

// cleanup removes what speakers left on this node.
func cleanup(ctx context.Context) error {
	layers, err := openLayers()
	if err != nil {
		return err
	}
	defer layers.close()
	removed, err := speaker.Cleanup(ctx, layers.table, layers.servers, layers.addresses)
	for _, line := range removed {
		fmt.Println("removed", line)
	}
	return err
}
