package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// Socket is the environment variable with the path of a running lab's socket, Logs that with its log directory.
const (
	Socket = "FAIRLEAD_LAB"
	Logs   = "FAIRLEAD_LAB_LOGS"
)

// Lab is a cluster of a `lab run`.
type Lab struct {
	dial       wire.Dialer
	kubeconfig string
}

var _ Cluster = (*Lab)(nil)

// NewLab finds the lab that the calling program runs in.
func NewLab() (*Lab, error) {
	path := os.Getenv(Socket)
	if path == "" {
		return nil, fmt.Errorf("no lab: %s is not set: run this by `lab run -- COMMAND` or in `lab shell`", Socket)
	}
	return newLab(path, os.Getenv(clientcmd.RecommendedConfigPathEnvVar)), nil
}

func newLab(socket, kubeconfig string) *Lab {
	return &Lab{kubeconfig: kubeconfig, dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
}

// Kubeconfig is the administrator's.
func (l *Lab) Kubeconfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", l.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", l.kubeconfig, err)
	}
	return config, nil
}

// Hosts lists all hosts.
func (l *Lab) Hosts(ctx context.Context) ([]Host, error) {
	var hosts []Host
	return hosts, wire.Call(ctx, l.dial, "hosts", nil, &hosts)
}

// ExecArgs is a command on a host, as the lab's socket takes it.
type ExecArgs struct {
	Host    string   `json:"host"`
	Command []string `json:"command"`
	Dir     string   `json:"dir"`
	Term    string   `json:"term,omitempty"`
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("exit status %d", e.Status)
	if e.Stderr != "" {
		text += ": " + strings.TrimSpace(e.Stderr)
	}
	return text
}

// Exec runs a command on a host, in the caller's directory and with the lab's environment.
func (l *Lab) Exec(ctx context.Context, host string, stdio Stdio, command ...string) error {
	process, err := l.start(ctx, host, stdio, command)
	if err != nil {
		return err
	}
	done := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		forward(process, stdio.Signals, done)
	}()
	status, err := process.Wait()
	close(done)
	<-forwarded
	if err != nil {
		return fmt.Errorf("%s on %s: %w", command[0], host, err)
	}
	if status != 0 {
		return &ExitError{Status: status}
	}
	return nil
}

func (l *Lab) start(ctx context.Context, host string, stdio Stdio, command []string) (wire.Process, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("find the current directory: %w", err)
	}
	args := ExecArgs{Host: host, Command: command, Dir: dir, Term: os.Getenv("TERM")}
	return wire.Start(ctx, l.dial, "exec", args, wire.Stdio{In: stdio.In, Out: stdio.Out, Err: stdio.Err})
}

func forward(process wire.Process, signals <-chan os.Signal, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case s := <-signals:
			if signal, ok := signalOf(s); ok {
				// It fails only if the command has ended.
				_ = process.Signal(signal)
			}
		}
	}
}

// Output is a command's standard output.
func (l *Lab) Output(ctx context.Context, host string, command ...string) (string, error) {
	var out, errs bytes.Buffer
	err := l.Exec(ctx, host, Stdio{Out: &out, Err: &errs}, command...)
	var exit *ExitError
	if errors.As(err, &exit) {
		exit.Stderr = errs.String()
		err = fmt.Errorf("%s on %s: %w", strings.Join(command, " "), host, exit)
	}
	return strings.TrimSpace(out.String()), err
}

// AddPod makes a pod; an empty namespace is default.
func (l *Lab) AddPod(ctx context.Context, pod Pod) (Pod, error) {
	return pod, wire.Call(ctx, l.dial, "pod-add", pod, &pod)
}

// PodReadyArgs says what a pod's Ready condition shall be.
type PodReadyArgs struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
}

// TerminatePod begins a pod's end.
func (l *Lab) TerminatePod(ctx context.Context, name string) error {
	return wire.Call(ctx, l.dial, "pod-terminate", name, nil)
}

// SetPodReady sets the Ready condition of a pod.
func (l *Lab) SetPodReady(ctx context.Context, name string, ready bool) error {
	return wire.Call(ctx, l.dial, "pod-ready", PodReadyArgs{Name: name, Ready: ready}, nil)
}

// DeletePod removes a pod.
func (l *Lab) DeletePod(ctx context.Context, name string) error {
	return wire.Call(ctx, l.dial, "pod-delete", name, nil)
}

// Pods lists the pods.
func (l *Lab) Pods(ctx context.Context) ([]Pod, error) {
	var pods []Pod
	return pods, wire.Call(ctx, l.dial, "pod-list", nil, &pods)
}

// FaultArgs is a fault and its target.
type FaultArgs struct {
	Kind   FaultKind `json:"kind"`
	Target string    `json:"target,omitempty"`
}

// Fault injects or ends a fault.
func (l *Lab) Fault(ctx context.Context, kind FaultKind, target string) error {
	return wire.Call(ctx, l.dial, "fault", FaultArgs{Kind: kind, Target: target}, nil)
}

// SecondCluster is where another cluster of the lab is found, in place of what the environment says of the first.
type SecondCluster struct {
	Socket     string `json:"socket"`
	Kubeconfig string `json:"kubeconfig"`
	Logs       string `json:"logs"`
}

// StartSecond starts another cluster on the same LAN and tells where it is found.
func (l *Lab) StartSecond(ctx context.Context, nodes int) (second SecondCluster, err error) {
	return second, wire.Call(ctx, l.dial, "second-add", nodes, &second)
}

// AddSecond starts another cluster on the same LAN.
func (l *Lab) AddSecond(ctx context.Context, nodes int) (Cluster, error) {
	second, err := l.StartSecond(ctx, nodes)
	if err != nil {
		return nil, err
	}
	return newLab(second.Socket, second.Kubeconfig), nil
}

// DeleteSecond removes the other cluster.
func (l *Lab) DeleteSecond(ctx context.Context) error {
	return wire.Call(ctx, l.dial, "second-delete", nil, nil)
}

// Processes lists the processes.
func (l *Lab) Processes(ctx context.Context) ([]Process, error) {
	var processes []Process
	return processes, wire.Call(ctx, l.dial, "processes", nil, &processes)
}

// Logs is the path of a process's log.
func (l *Lab) Logs(ctx context.Context, process string) (string, error) {
	processes, err := l.Processes(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, p := range processes {
		if p.Name == process {
			return p.Log, nil
		}
		names = append(names, p.Name)
	}
	return "", fmt.Errorf("no process is named %s: there are %s", process, strings.Join(names, ", "))
}
