package main

import (
	"errors"

	"github.com/spf13/pflag"

	"github.com/fairlead/fairlead/pkg/kube"
)

// Config is what the flags say.
type Config struct {
	Kube           kube.ClientConfig
	Node           string
	Namespace      string
	MetricsAddress string
	ProcSysNet     string
}

// AddFlags adds the flags with their defaults.
func (c *Config) AddFlags(flags *pflag.FlagSet) {
	c.Kube.UserAgent = "fairlead-speaker"
	c.Kube.AddFlags(flags)
	flags.StringVar(&c.Node, "node-name", "", "name of the Node object of this node (required)")
	flags.StringVar(&c.Namespace, "namespace", "fairlead-system", "namespace of the speakers' Leases")
	flags.StringVar(&c.MetricsAddress, "metrics-address", ":7473", "address of /metrics, /healthz and /readyz")
	flags.StringVar(&c.ProcSysNet, "proc-sys-net", "/proc/sys/net",
		"where the node's /proc/sys/net can be written: a container's own is read-only")
}

// Validate names the first value that cannot work.
func (c *Config) Validate() error {
	if c.Node == "" {
		return errors.New("--node-name is empty: pass the name of this node's Node object " +
			"(in a pod: fieldRef spec.nodeName)")
	}
	return c.Kube.Validate()
}
