// Package guest gives the lab a kernel with IPVS: it tells whether this one has it, and boots a User-Mode Linux guest
// where it has not. It owns the guest's process, which dies with the machine that started it; what happens inside is the
// agent's.
package guest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/agent"
	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/topology"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// Uplink is the guest's interface toward the control plane, Tap the other end.
const (
	Uplink = "vec0"
	Tap    = "tap0"
)

// bootTimeout is generous: a boot takes a second, on a busy machine a few.
const bootTimeout = 60 * time.Second

// HasIPVS says whether the running kernel has IPVS, after loading its module if there is one.
func HasIPVS(ctx context.Context) bool {
	// Built into the kernel there is no module to load, so only the file counts.
	_ = exec.CommandContext(ctx, "modprobe", "ip_vs").Run()
	_, err := os.Stat("/proc/net/ip_vs")
	return err == nil
}

// Config is a guest to boot.
type Config struct {
	// Kernel is the User-Mode Linux binary.
	Kernel string
	// Memory is its mem= parameter, such as 4096M.
	Memory string
	// Lab is the lab's own program, by a path without spaces.
	Lab string
	// Dir is a directory for the kernel's own files, by a path without spaces.
	Dir string
	// Processors are those the guest runs on; nil: all. It has one processor of its own and is several processes that wait for
	// each other, one system call after the other. A virtual machine wakes a processor that sleeps some ten times more slowly
	// than it switches processes on one.
	Processors []int
	Families   topology.Families
	// Console receives what the guest's kernel and agent say.
	Console io.Writer
}

// Boot starts a guest behind the tap device of a host that is there already.
func Boot(m *machine.Machine, host string, config Config) (wire.Process, error) {
	argv := []string{
		config.Kernel, "mem=" + config.Memory, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "rw",
		"vec0:transport=tap,ifname=" + Tap + ",depth=128,gro=1",
		"console=tty0", "con=null", "con0=null,fd:1", "quiet", "seccomp=on", "panic=-1", "umid=guest", "uml_dir=" + config.Dir,
		"init=" + config.Lab, "--", "agent", "--init", "--uplink", Uplink, "--families", config.Families.String(),
	}
	env := []string{"PATH=" + agent.Path, "HOME=" + config.Dir}
	if _, err := os.Stat("/dev/shm"); err == nil {
		// The guest's memory is a file: not on a disk where that can be helped.
		env = append(env, "TMPDIR=/dev/shm")
	}
	command := machine.Command{Host: host, Argv: argv, Env: env, Dir: "/", Urgent: true, Processors: config.Processors}
	process, err := m.Start(command, wire.Stdio{Out: config.Console, Err: config.Console})
	if err != nil {
		return nil, fmt.Errorf("boot a guest: %w", err)
	}
	return process, nil
}

// Await waits until the agent on the other side of host answers, or its process has ended.
func Await(ctx context.Context, m *machine.Machine, host string, families topology.Families, process wire.Process) (*agent.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	dead := make(chan struct{})
	go func() {
		// Ends with the process, which the caller ends at the latest.
		_, _ = process.Wait()
		close(dead)
	}()
	dial := func(ctx context.Context) (net.Conn, error) {
		return m.Dial(ctx, host, "tcp", agent.Address(families).String())
	}
	for {
		attempt, stop := context.WithTimeout(ctx, time.Second)
		conn, err := dial(attempt)
		stop()
		if err == nil {
			_ = conn.Close()
			return agent.NewClient(dial), nil
		}
		select {
		case <-dead:
			return nil, fmt.Errorf("the agent ended before it answered")
		case <-ctx.Done():
			return nil, fmt.Errorf("the agent does not answer at %s: %w", agent.Address(families), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
