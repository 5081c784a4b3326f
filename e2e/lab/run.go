package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/e2e/lab/control"
	"github.com/fairlead/fairlead/e2e/lab/driver"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// runFlags are the flags of run and shell.
type runFlags struct {
	nodes                    int
	families, proxy, product string
	proxyArgs                []string
	manifests, kernel, kube  string
	memory                   string
	keepLogs, quiet          bool
}

func (f *runFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.IntVar(&f.nodes, "nodes", 3, "number of nodes")
	flags.StringVar(&f.families, "families", "dual", "address families: ipv4, ipv6 or dual")
	flags.StringVar(&f.proxy, "kube-proxy", "nftables", "kube-proxy's mode: nftables, iptables, ipvs or none; "+
		"with commas between: those of the first nodes")
	flags.StringArrayVar(&f.proxyArgs, "kube-proxy-arg", nil, "one more flag for kube-proxy, such as --ipvs-strict-arp (repeatable)")
	flags.StringVar(&f.product, "product", driver.ProductFairlead, "what to install: fairlead or none")
	flags.StringVar(&f.manifests, "manifests", "", "kustomization to install (default manifests of this module)")
	flags.BoolVar(&f.keepLogs, "keep-logs", false, "keep the logs of a run that succeeds too")
	flags.StringVar(&f.kube, "kubernetes", "", "Kubernetes binary (default built by e2e/kubernetes/build.sh)")
	addKernelFlags(command, &f.kernel, &f.memory, &f.quiet)
}

func addKernelFlags(command *cobra.Command, kernel, memory *string, quiet *bool) {
	flags := command.Flags()
	flags.StringVar(kernel, "kernel", "", "User-Mode Linux binary to boot, or host for the running kernel "+
		"(default the running one if it has ip_vs, else one built by e2e/kernel/build.sh)")
	flags.StringVar(memory, "memory", "4096M", "the guest's memory")
	flags.BoolVar(quiet, "quiet", false, "say nothing but errors")
}

func runCommand() *cobra.Command {
	var flags runFlags
	command := &cobra.Command{
		Use: "run [flags] -- COMMAND [ARG...]", Short: "Set a cluster up, run COMMAND beside it, remove it",
		Long: "Sets a cluster up, runs COMMAND on the control plane's side of it, removes everything and exits with COMMAND's status.",
		RunE: func(_ *cobra.Command, command []string) error { return flags.run(command, os.Environ()) },
	}
	flags.add(command)
	commandArgs(command, 0)
	return command
}

const greeting = `
This shell is beside a running cluster; exit removes it.
  kubectl get nodes,services,pods          lab hosts
  lab exec HOST COMMAND...                 lab pod add|ready|delete|list
  lab fault KIND [NODE]                    lab logs [PROCESS] [-f]
  lab exec client lab probe http://VIP/    hosts: n1 to n%d, client, router, far, control-plane
`

func shellCommand() *cobra.Command {
	var flags runFlags
	command := &cobra.Command{
		Use: "shell [flags]", Short: "Set a cluster up and open a shell beside it", Args: args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			shell := os.Getenv("SHELL")
			if shell == "" {
				shell = "/bin/bash"
			}
			script := fmt.Sprintf("cat <<'END'\n"+greeting+"END\nexec %q -i\n", flags.nodes, shell)
			return flags.run([]string{"/bin/sh", "-c", script}, os.Environ())
		},
	}
	flags.add(command)
	return command
}

func (f *runFlags) run(command, env []string) error {
	families, err := topology.ParseFamilies(f.families)
	if err != nil {
		return usageError{err}
	}
	proxy, err := control.ParseProxyModes(f.proxy)
	if err != nil {
		return usageError{err}
	}
	self, root, err := module()
	if err != nil {
		return err
	}
	if f.manifests == "" {
		f.manifests = filepath.Join(root, "manifests")
	}
	if f.manifests, err = filepath.Abs(f.manifests); err != nil {
		return fmt.Errorf("find the manifests: %w", err)
	}
	config := driver.Config{
		Lab: self, Root: root, Kernel: f.kernel, Kubernetes: f.kube, Memory: f.memory, Nodes: f.nodes, Families: families,
		Proxy: proxy, ProxyArgs: f.proxyArgs, Product: f.product, Manifests: f.manifests, Programs: filepath.Dir(self),
		KeepLogs: f.keepLogs, Progress: progress(f.quiet), Command: command, Env: env,
	}
	if err := config.Validate(); err != nil {
		return usageError{err}
	}
	status, err := driver.Run(rootContext(), config)
	return result(status, err)
}

func vmCommand() *cobra.Command {
	var config driver.VMConfig
	var quiet bool
	command := &cobra.Command{
		Use: "vm [flags] -- COMMAND [ARG...]", Short: "Run COMMAND as root on a kernel with ip_vs, without a cluster",
		RunE: func(_ *cobra.Command, command []string) error {
			var err error
			if config.Lab, config.Root, err = module(); err != nil {
				return err
			}
			if config.Dir, err = os.Getwd(); err != nil {
				return fmt.Errorf("find the current directory: %w", err)
			}
			config.Progress, config.Command, config.Env = progress(quiet), command, os.Environ()
			status, err := driver.RunVM(rootContext(), config)
			return result(status, err)
		},
	}
	addKernelFlags(command, &config.Kernel, &config.Memory, &quiet)
	commandArgs(command, 0)
	return command
}

func result(status int, err error) error {
	if err != nil {
		return err
	}
	if status != 0 {
		return statusError(status)
	}
	return nil
}

func progress(quiet bool) io.Writer {
	if quiet {
		return io.Discard
	}
	return os.Stderr
}

// module finds this program and the root of the module it was built from: the parent of its directory, bin.
func module() (self, root string, err error) {
	if self, err = os.Executable(); err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return "", "", fmt.Errorf("find the lab's own program: %w", err)
	}
	root = filepath.Dir(filepath.Dir(self))
	if _, err := os.Stat(filepath.Join(root, "e2e/kernel/build.sh")); errors.Is(err, os.ErrNotExist) {
		return "", "", fmt.Errorf("%s is not below the module's root: build it by go build -o bin/lab ./e2e/lab", self)
	}
	if runtime.GOOS != "linux" {
		return "", "", errors.New("the lab needs Linux")
	}
	return self, root, nil
}
