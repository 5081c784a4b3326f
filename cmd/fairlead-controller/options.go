package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/fairlead/fairlead/pkg/controller"
	"github.com/fairlead/fairlead/pkg/kube"
	"github.com/fairlead/fairlead/pkg/source"
)

// options are the flags.
type options struct {
	client         kube.ClientConfig
	rules          source.Rules
	workers        int
	metricsAddress string
	namespace      string
	gossipSecret   string
	leaderElect    bool
	identity       string
	hostname       string
	maps           []string
	mapSelector    string
	configMaps     []controller.ConfigMapSource
}

// parse reads flags, fills in defaults and validates.
func parse(args []string) (*options, error) {
	o := &options{client: kube.ClientConfig{UserAgent: component}}
	flags := pflag.NewFlagSet(component, pflag.ContinueOnError)
	flags.SortFlags = false
	o.client.AddFlags(flags)
	flags.StringVar(&o.rules.Class, "load-balancer-class", source.DefaultClass,
		"spec.loadBalancerClass of the Services to serve")
	flags.BoolVar(&o.rules.Classless, "classless", true,
		"serve Services of type LoadBalancer that have no spec.loadBalancerClass, too")
	flags.BoolVar(&o.rules.Foreign, "foreign-annotations", true,
		"understand the Service annotations of MetalLB (metallb.io/address-pool, loadBalancerIPs, allow-shared-ip) and kube-vip "+
			"(kube-vip.io/loadbalancerIPs)")
	flags.StringSliceVar(&o.maps, "vip-configmap", nil,
		"ConfigMap, as namespace/name, whose keys are addresses and whose values the Services on them (namespace/service); may be repeated")
	flags.StringSliceVar(&o.maps, "services-configmap", nil, "the name that --vip-configmap has in kube-keepalived-vip")
	flags.StringVar(&o.mapSelector, "vip-configmap-selector", "",
		"label selector of ConfigMaps in --namespace that are read like those of --vip-configmap")
	flags.IntVar(&o.workers, "workers", controller.DefaultWorkers, "Services worked on at once")
	flags.StringVar(&o.metricsAddress, "metrics-address", ":7474", "host:port of /metrics, /healthz and /readyz")
	flags.StringVar(&o.namespace, "namespace", "fairlead-system", "namespace of this program: of its Lease, of --vip-configmap-selector and --gossip-secret")
	flags.StringVar(&o.gossipSecret, "gossip-secret", kube.GossipSecret,
		"Secret in --namespace with the key by which speakers gossip, made where there is none; empty: it is not made")
	flags.BoolVar(&o.leaderElect, "leader-elect", true, "agree with other replicas on one that works")
	flags.StringVar(&o.identity, "leader-election-identity", "",
		"name of this replica in the Lease; empty: the host's name with a random suffix")
	kube.AddLogFlags(flags)
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: everything is set by flags, see --help", flags.Arg(0))
	}
	if err := o.defaults(); err != nil {
		return nil, err
	}
	return o, o.validate()
}

func (o *options) defaults() error {
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read the host's name: %w", err)
	}
	o.hostname = name
	if o.identity == "" {
		o.identity = name + "_" + rand.String(8)
	}
	return nil
}

func (o *options) validate() error {
	if err := o.readConfigMaps(); err != nil {
		return err
	}
	problems := validation.IsQualifiedName(o.rules.Class)
	switch {
	case len(problems) > 0:
		return fmt.Errorf("--load-balancer-class=%q: %s; write for example %s", o.rules.Class, strings.Join(problems, "; "), source.DefaultClass)
	case o.workers < 1:
		return fmt.Errorf("--workers=%d: must be at least 1, for example %d", o.workers, controller.DefaultWorkers)
	case o.leaderElect && o.namespace == "":
		return errors.New("--namespace is empty: name the namespace of this pod, or pass --leader-elect=false for a single replica")
	}
	return o.client.Validate()
}

// readConfigMaps reads which ConfigMaps map addresses.
func (o *options) readConfigMaps() error {
	for _, text := range o.maps {
		namespace, name, ok := strings.Cut(text, "/")
		if !ok || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
			return fmt.Errorf("--vip-configmap=%q: write namespace/name, for example fairlead-system/fairlead-vips", text)
		}
		o.configMaps = append(o.configMaps, controller.ConfigMapSource{Namespace: namespace, Name: name})
	}
	if o.mapSelector == "" {
		return nil
	}
	selector, err := labels.Parse(o.mapSelector)
	if err != nil {
		return fmt.Errorf("--vip-configmap-selector=%q: %w; write for example fairlead.dev/vips=true", o.mapSelector, err)
	}
	if o.namespace == "" {
		return errors.New("--vip-configmap-selector looks in --namespace, which is empty: name the namespace of the ConfigMaps")
	}
	o.configMaps = append(o.configMaps, controller.ConfigMapSource{Namespace: o.namespace, Selector: selector})
	return nil
}
