package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/host"
	"github.com/fairlead/fairlead/pkg/kube"
)

// Config is what the flags say.
type Config struct {
	Kube           kube.ClientConfig
	Node           string
	Namespace      string
	MetricsAddress string
	OnAPIOutage    string
	OnStop         string
	GossipPort     int
	GossipSecret   string
	Host           Node
}

// Node is what the flags say of the node, to serve as to check and clean it up.
type Node struct {
	Placement  string
	ProcSysNet string
	StateDir   string
}

// Values of --on-stop.
const (
	onStopAuto     = "Auto"
	onStopHandOver = "HandOver"
)

// Placements of the datapath.
const (
	placementHost     = "host"
	placementIsolated = "isolated"
)

// AddFlags adds the flags with their defaults.
func (n *Node) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&n.Placement, "placement", placementHost,
		"where the datapath is: host (in the node's network namespace) or isolated (in one of its own)")
	flags.StringVar(&n.ProcSysNet, "proc-sys-net", "/proc/sys/net",
		"where the node's /proc/sys/net can be written: a container's own is read-only")
	flags.StringVar(&n.StateDir, "state-dir", "/run/fairlead",
		"directory of the node that outlives the speaker: what sysctls were before, the isolated datapath's namespace")
}

// Validate names the first value that cannot work.
func (n *Node) Validate() error {
	if n.Placement != placementHost && n.Placement != placementIsolated {
		return fmt.Errorf("--placement is %q: set it to %s or %s", n.Placement, placementHost, placementIsolated)
	}
	return nil
}

func (n *Node) isolated() bool { return n.Placement == placementIsolated }

// space is where the isolated datapath's namespace is mounted.
func (n *Node) space() string { return filepath.Join(n.StateDir, "netns") }

// sysctls are those of one side; of the host in host placement if none is named.
func (n *Node) sysctls(side host.Side, link string) *host.Sysctls {
	s := &host.Sysctls{Root: n.ProcSysNet, Side: side, Link: link}
	if side != host.Inside { // those go with their namespace
		s.Record = filepath.Join(n.StateDir, "sysctls.json")
	}
	return s
}

// AddFlags adds the flags with their defaults.
func (c *Config) AddFlags(flags *pflag.FlagSet) {
	c.Kube.UserAgent = "fairlead-speaker"
	c.Kube.AddFlags(flags)
	flags.StringVar(&c.Node, "node-name", "", "name of the Node object of this node (required)")
	flags.StringVar(&c.Namespace, "namespace", "fairlead-system", "namespace of the speakers' Leases and of --gossip-secret")
	flags.StringVar(&c.MetricsAddress, "metrics-address", ":7473", "address of /metrics, /healthz and /readyz")
	flags.StringVar(&c.OnAPIOutage, "on-api-outage", string(election.Hold), "what becomes of the VIPs that this node holds while "+
		"the API server does not answer: Hold (kept while it does not answer most other speakers either) or Release")
	flags.StringVar(&c.OnStop, "on-stop", onStopAuto, "what becomes of the VIPs that this node holds when the speaker is told to stop: "+
		"Auto (left to the next speaker of the node for half a minute, or handed over if the node is cordoned, not Ready or in "+
		"maintenance) or HandOver (always handed over)")
	flags.IntVar(&c.GossipPort, "gossip-port", 7475,
		"UDP and TCP port, the same on all nodes, by which speakers notice each other's end; 0: they do by their Leases alone")
	flags.StringVar(&c.GossipSecret, "gossip-secret", kube.GossipSecret, "Secret with the key that encrypts what speakers gossip")
	c.Host.AddFlags(flags)
}

// Validate names the first value that cannot work.
func (c *Config) Validate() error {
	if c.Node == "" {
		return errors.New("--node-name is empty: pass the name of this node's Node object " +
			"(in a pod: fieldRef spec.nodeName)")
	}
	if c.OnAPIOutage != string(election.Hold) && c.OnAPIOutage != string(election.Release) {
		return fmt.Errorf("--on-api-outage is %q: set it to %s or %s", c.OnAPIOutage, election.Hold, election.Release)
	}
	if c.OnStop != onStopAuto && c.OnStop != onStopHandOver {
		return fmt.Errorf("--on-stop is %q: set it to %s or %s", c.OnStop, onStopAuto, onStopHandOver)
	}
	if c.GossipPort < 0 || c.GossipPort > 65535 {
		return fmt.Errorf("--gossip-port=%d: set it to 1 to 65535, for example 7475, or to 0 for none", c.GossipPort)
	}
	if c.GossipPort > 0 && c.GossipSecret == "" {
		return fmt.Errorf("--gossip-secret is empty: name the Secret with the key, for example %s, or pass --gossip-port=0", kube.GossipSecret)
	}
	if err := c.Host.Validate(); err != nil {
		return err
	}
	return c.Kube.Validate()
}
