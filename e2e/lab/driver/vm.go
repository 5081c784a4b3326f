package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/fairlead/fairlead/e2e/lab/guest"
	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/topology"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// VMConfig is a command to run as root on a kernel with IPVS, without a cluster.
type VMConfig struct {
	Lab, Root, Kernel, Memory string
	Progress                  io.Writer
	Command, Env              []string
	Dir                       string
}

// RunVM runs the command, directly if this kernel will do, in a guest if not, and returns its status. In the guest the
// command has the same file system, directory and environment.
func RunVM(ctx context.Context, config VMConfig) (status int, err error) {
	if len(config.Command) == 0 {
		return 0, errors.New("no COMMAND is given")
	}
	if os.Geteuid() != 0 {
		return 0, errors.New("run it as root")
	}
	dir, err := newRunDir(config.Lab)
	if err != nil {
		return 0, err
	}
	booted := false
	defer func() { err = errors.Join(err, dir.close(!booted)) }()
	kernel, err := chooseKernel(ctx, config.Kernel, config.Root, config.Progress)
	if err != nil {
		return 0, fmt.Errorf("kernel: %w", err)
	}
	m := machine.New(dir.prefix())
	command := machine.Command{Host: topology.ControlPlane, Argv: config.Command, Env: config.Env, Dir: config.Dir}
	if kernel == HostKernel {
		booted = true
		command.Host = "host"
		if err := m.Adopt(command.Host); err != nil {
			return 0, err
		}
		process, err := m.StartForeground(command, wire.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
		if err != nil {
			return 0, err
		}
		return awaitCommand(process, nil)
	}
	families := topology.Families{V4: true}
	network := families.ControlPlaneNetwork(machine.Link{Name: guest.Tap, Kind: machine.Tap})
	if err := m.Add(machine.Host{Name: topology.ControlPlane, Network: network}); err != nil {
		return 0, err
	}
	vm, err := startGuest(m, dir, kernel, config.Memory, families)
	if err != nil {
		return 0, err
	}
	booting, stop := untilSignal(ctx)
	client, err := guest.Await(booting, m, topology.ControlPlane, families, vm)
	interrupted := context.Cause(booting)
	stop()
	if interrupted != nil {
		return 0, interrupted
	}
	if err != nil {
		return 0, fmt.Errorf("guest: %w (logs: %s)", err, dir.logs())
	}
	booted = true
	command.Host = topology.Fabric
	process, err := client.Start(ctx, command, wire.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	if err != nil {
		return 0, err
	}
	return awaitCommand(process, nil)
}

// awaitCommand waits for a command and passes on the signals that this process gets. Losing lost ends it.
func awaitCommand(process wire.Process, lost <-chan struct{}) (int, error) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, forwarded...)
	defer signal.Stop(signals)
	type end struct {
		status int
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		status, err := process.Wait()
		ended <- end{status, err}
	}()
	var failure error
	for {
		select {
		case e := <-ended:
			return e.status, errors.Join(failure, e.err)
		case s := <-signals:
			passOn(process, s)
		case <-lost:
			lost, failure = nil, errors.New("the agent's side is lost")
			passOn(process, terminate)
		}
	}
}
