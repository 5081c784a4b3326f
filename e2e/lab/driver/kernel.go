package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/lab/agent"
	"github.com/fairlead/fairlead/e2e/lab/guest"
	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/topology"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// nativeUplink is the fabric's end of the veth to the control plane where there is no guest.
const nativeUplink = "uplink0"

// tools are the commands the lab and kube-proxy run on hosts.
var tools = []string{"modprobe", "ip", "nft", "iptables", "ipset", "conntrack", "setpriv"}

// preflight checks what the lab needs of the machine, and installs missing packages.
func preflight(ctx context.Context, root string, progress io.Writer) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes network namespaces: run it as root")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err == nil {
			continue
		}
		script := exec.CommandContext(ctx, filepath.Join(root, "e2e/packages.sh"), "lab")
		script.Stdout, script.Stderr = progress, progress
		if err := script.Run(); err != nil {
			return fmt.Errorf("packages: command %s is missing and e2e/packages.sh lab failed: %w", tool, err)
		}
		break
	}
	return nil
}

// chooseKernel is HostKernel or the path of a guest's.
func (d *Driver) chooseKernel(ctx context.Context) (string, error) {
	return chooseKernel(ctx, d.config.Kernel, d.config.Root, d.config.Progress)
}

func chooseKernel(ctx context.Context, kernel, root string, progress io.Writer) (string, error) {
	switch {
	case kernel == HostKernel:
		return kernel, nil
	case kernel != "":
		return filepath.Abs(kernel)
	case guest.HasIPVS(ctx):
		return HostKernel, nil
	}
	if progress != nil {
		_, _ = fmt.Fprintln(progress, "lab: kernel without ip_vs: booting a guest")
	}
	return build(ctx, root, "kernel", progress)
}

// build runs e2e/NAME/build.sh, which prints the path of what it built now or before. One runs at a time.
func build(ctx context.Context, root, name string, progress io.Writer) (string, error) {
	lock, err := os.OpenFile(filepath.Join(registry, ".build-"+name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("lock the build: %w", err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock the build: %w", err)
	}
	script := filepath.Join(root, "e2e", name, "build.sh")
	var out bytes.Buffer
	command := exec.CommandContext(ctx, script)
	command.Stdout, command.Stderr = &out, progress
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("run %s: %w", script, err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[len(lines)-1], nil
}

// startAgent starts the agent and connects to it.
func (d *Driver) startAgent(ctx context.Context) error {
	var process wire.Process
	var err error
	if d.config.Kernel == HostKernel {
		process, err = d.startNativeAgent()
	} else {
		process, err = startGuest(d.local, d.dir, d.config.Kernel, d.config.Memory, d.config.Families)
	}
	if err != nil {
		return err
	}
	go func() {
		// Ends with the agent, at the latest when the run's namespaces are removed.
		_, _ = process.Wait()
		close(d.died)
	}()
	d.remote, err = guest.Await(ctx, d.local, topology.ControlPlane, d.config.Families, process)
	if err == nil && d.config.Kernel != HostKernel {
		d.progress("guest booted (%s)", d.elapsed())
	}
	return err
}

func (d *Driver) startNativeAgent() (wire.Process, error) {
	log, err := os.Create(d.dir.log("agent"))
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	argv := []string{
		d.dir.lab(), "agent", "--uplink", nativeUplink, "--families", d.config.Families.String(),
		"--prefix", d.dir.prefix(),
	}
	// The agent adopts the namespace as its own, and this side need not keep it as a host.
	d.mu.Lock()
	delete(d.locals, topology.Fabric)
	d.mu.Unlock()
	env := []string{"PATH=" + agent.Path, "HOME=" + d.dir.state()}
	command := machine.Command{Host: topology.Fabric, Argv: argv, Env: env, Dir: "/"}
	return d.local.Start(command, wire.Stdio{Out: log, Err: log})
}

func startGuest(m *machine.Machine, dir *runDir, kernel, memory string, families topology.Families) (wire.Process, error) {
	console, err := os.Create(dir.log("guest"))
	if err != nil {
		return nil, fmt.Errorf("make log: %w", err)
	}
	processors, lock, err := takeProcessor(registry)
	if err != nil {
		return nil, err
	}
	dir.taken = lock
	return guest.Boot(m, topology.ControlPlane, guest.Config{
		Kernel: kernel, Memory: memory, Lab: dir.lab(), Dir: dir.state(), Processors: processors, Families: families, Console: console,
	})
}
