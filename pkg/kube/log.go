package kube

import (
	"flag"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
)

// AddLogFlags adds klog's -v and --vmodule. klog's settings are the process's, so only main calls this.
func AddLogFlags(flags *pflag.FlagSet) {
	all := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(all)
	for _, name := range []string{"v", "vmodule"} {
		f := pflag.PFlagFromGoFlag(all.Lookup(name))
		flags.AddFlag(f)
	}
}
