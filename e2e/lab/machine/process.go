package machine

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// outputGrace is how long the output of a command that ended is still read where its own children hold it open.
const outputGrace = time.Second

// urgent is the nice value of urgent commands: ten steps are a weight nine times the usual one.
const urgent = -10

// process is a wire.Process of this kernel.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	code  int
	err   error
}

// Start runs a command on a host, in a session of its own. It dies with this process.
func (m *Machine) Start(command Command, stdio wire.Stdio) (wire.Process, error) {
	return m.start(command, stdio, &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL})
}

// StartForeground runs a command on a host in the caller's session, so that it shares its terminal.
func (m *Machine) StartForeground(command Command, stdio wire.Stdio) (wire.Process, error) {
	return m.start(command, stdio, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL})
}

func (m *Machine) start(command Command, stdio wire.Stdio, attr *syscall.SysProcAttr) (wire.Process, error) {
	s, err := m.space(command.Host)
	if err != nil {
		return nil, err
	}
	if len(command.Argv) == 0 {
		return nil, errors.New("no command is given")
	}
	path, err := lookPath(command)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: command.Argv, Env: command.Env, Dir: command.Dir, SysProcAttr: attr}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdio.Out, stdio.Err, outputGrace
	var in io.WriteCloser
	if file, ok := stdio.In.(*os.File); ok {
		cmd.Stdin = file
	} else if stdio.In != nil {
		// Not cmd.Stdin: Wait would wait for the reader, which may outlive the command.
		if in, err = cmd.StdinPipe(); err != nil {
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
	}
	err = s.do(func() error {
		for _, dir := range command.Mkdir {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make directory: %w", err)
			}
		}
		return startOn(command.Processors, cmd)
	})
	if err != nil {
		return nil, fmt.Errorf("run %s on host %s: %w", command.Argv[0], command.Host, err)
	}
	if command.Urgent {
		hurry(cmd.Process.Pid)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	if in != nil {
		go func() {
			// Ends with the input or when the command does not read it any more; either is its own business.
			_, _ = io.Copy(in, stdio.In)
			_ = in.Close()
		}()
	}
	go p.wait()
	return p, nil
}

// startOn starts a command on some processors: it inherits them from the thread that starts it, which is the calling one.
func startOn(processors []int, cmd *exec.Cmd) error {
	if len(processors) == 0 {
		return cmd.Start()
	}
	var before, own unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read its processors: %w", err)
	}
	for _, processor := range processors {
		own.Set(processor)
	}
	if err := unix.SchedSetaffinity(0, &own); err != nil {
		return fmt.Errorf("choose processors %v: %w", processors, err)
	}
	err := cmd.Start()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// hurry raises the priority of a process, and of its session where the kernel shares time between sessions (sched(7),
// autogroup). Where that is not allowed everything still works, in its turn.
func hurry(pid int) {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, pid, urgent)
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(urgent)), 0)
}

func (p *process) wait() {
	defer close(p.ended)
	err := p.cmd.Wait()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) && !errors.Is(err, exec.ErrWaitDelay) {
		p.err = err
		return
	}
	p.code = p.cmd.ProcessState.ExitCode()
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		p.code = 128 + int(status.Signal())
	}
}

func (p *process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process. What a process cannot handle goes to its whole group: a container's children do
// not outlive it either.
func (p *process) Signal(signal syscall.Signal) error {
	unhandled := signal == syscall.SIGKILL || signal == syscall.SIGSTOP || signal == syscall.SIGCONT
	if !unhandled || !p.cmd.SysProcAttr.Setsid {
		return p.cmd.Process.Signal(signal)
	}
	select {
	case <-p.ended:
		return os.ErrProcessDone
	default:
		return syscall.Kill(-p.PID(), signal)
	}
}

func (p *process) Wait() (int, error) {
	<-p.ended
	return p.code, p.err
}

// lookPath finds a command by the PATH of its own environment.
func lookPath(command Command) (string, error) {
	name := command.Argv[0]
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(command.Dir, name)
		}
		return name, nil
	}
	for _, entry := range command.Env {
		list, ok := strings.CutPrefix(entry, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(list) {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("no command %s in PATH", name)
}

// RSS is the resident memory of a process in bytes; 0 for one that is gone.
func RSS(pid int) int64 {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
