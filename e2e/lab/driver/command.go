package driver

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/agent"
	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/topology"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// forwarded are the signals that a command gets through us.
var forwarded = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}

// terminate ends a command that has to go.
const terminate = syscall.SIGTERM

// command runs the run's command on the control plane's host and returns its status.
func (d *Driver) command() (int, error) {
	dir, err := os.Getwd()
	if err != nil {
		return 0, fmt.Errorf("find the current directory: %w", err)
	}
	command := machine.Command{Host: topology.ControlPlane, Argv: d.config.Command, Env: d.commandEnv(), Dir: dir}
	process, err := d.local.StartForeground(command, wire.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	if err != nil {
		return 0, err
	}
	status, err := awaitCommand(process, d.died)
	if err != nil {
		return status, fmt.Errorf("%w (logs: %s)", err, d.dir.logs())
	}
	return status, nil
}

// passOn gives a signal to a command. An interrupt typed at the terminal has reached it already.
func passOn(process wire.Process, s os.Signal) {
	number, ok := s.(syscall.Signal)
	if !ok || (number == syscall.SIGINT || number == syscall.SIGQUIT) && sharesTerminal(process) {
		return
	}
	// It fails only if the command has ended.
	_ = process.Signal(number)
}

// sharesTerminal says whether a process here is of our own foreground process group.
func sharesTerminal(process wire.Process) bool {
	foreground, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	if err != nil || foreground != unix.Getpgrp() {
		return false
	}
	group, err := unix.Getpgid(process.PID())
	return err == nil && group == foreground
}

// commandEnv is the caller's environment and the lab's. Proxies of the host cannot be reached from inside.
func (d *Driver) commandEnv() []string {
	own := map[string]string{
		"KUBECONFIG": d.plane.AdminKubeconfig(), cluster.Socket: d.dir.socket(), cluster.Logs: d.dir.logs(),
		"PATH": d.dir.bin() + ":" + agent.Path,
	}
	var env []string
	for _, entry := range d.config.Env {
		name, value, _ := strings.Cut(entry, "=")
		switch strings.ToUpper(name) {
		case "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY":
			continue
		case "PATH":
			own["PATH"] = d.dir.bin() + ":" + value
			continue
		}
		if _, ours := own[name]; !ours {
			env = append(env, entry)
		}
	}
	for name, value := range own {
		env = append(env, name+"="+value)
	}
	return env
}
