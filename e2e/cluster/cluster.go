// Package cluster is what end-to-end tests and the demo see of a Kubernetes cluster and the machines around it: hosts to
// run commands on, pods to come and go, faults to inject, processes to look at. Lab is the implementation that talks to
// `lab run`; the lab's own subcommands use it too.
package cluster

import (
	"context"
	"io"
	"net/netip"
	"os"
	"syscall"

	"k8s.io/client-go/rest"
)

// Cluster is a cluster under test.
type Cluster interface {
	// Kubeconfig is the administrator's.
	Kubeconfig() (*rest.Config, error)
	// Hosts lists nodes, clients, routers and pods.
	Hosts(ctx context.Context) ([]Host, error)
	// Exec runs a command on a host until it ends or ctx does. A status other than 0 is an *ExitError.
	Exec(ctx context.Context, host string, stdio Stdio, command ...string) error
	// Output is Exec's standard output, without white space around it; the error holds standard error.
	Output(ctx context.Context, host string, command ...string) (string, error)
	// AddPod makes a pod with a server in it and returns when the API has it as Ready.
	AddPod(ctx context.Context, pod Pod) (Pod, error)
	// SetPodReady sets the Ready condition of a pod; its server goes on.
	SetPodReady(ctx context.Context, name string, ready bool) error
	// TerminatePod begins a pod's end, as a deletion does; its server goes on until DeletePod.
	TerminatePod(ctx context.Context, name string) error
	// DeletePod removes a pod and its server.
	DeletePod(ctx context.Context, name string) error
	// Pods lists the pods that AddPod made.
	Pods(ctx context.Context) ([]Pod, error)
	// Fault injects a fault, or ends one. The target is a node, or empty where the kind says so.
	Fault(ctx context.Context, kind FaultKind, target string) error
	// Processes lists what runs beside the pods' own programs.
	Processes(ctx context.Context) ([]Process, error)
	// Logs is the path of a process's log.
	Logs(ctx context.Context, process string) (string, error)
	// AddSecond starts another cluster with so many nodes on the same LAN, with a control plane and the product of its own.
	AddSecond(ctx context.Context, nodes int) (Cluster, error)
	// DeleteSecond removes it with its nodes and pods.
	DeleteSecond(ctx context.Context) error
	// Probe asks URLs from a host until it is stopped.
	Probe(ctx context.Context, host string, options ProbeOptions, urls ...string) (*Probe, error)
}

// Stdio are the streams of a command; nil ones are empty.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	// Signals are passed on to the command.
	Signals <-chan os.Signal
}

// ExitError is a command's status other than 0; 128+n after death by signal n.
type ExitError struct {
	Status int
	Stderr string
}

// Role is what a host is.
type Role string

// The roles of hosts.
const (
	RoleNode         Role = "node"
	RolePod          Role = "pod"
	RoleClient       Role = "client"
	RoleRouter       Role = "router"
	RoleFabric       Role = "fabric"
	RoleControlPlane Role = "control-plane"
	RoleController   Role = "controller"
)

// Host is something with a network of its own.
type Host struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Node is where a pod runs.
	Node      string       `json:"node,omitempty"`
	Addresses []netip.Addr `json:"addresses"`
	// Off is true while a node is powered off.
	Off bool `json:"off,omitempty"`
}

// Pod is a server with a network of its own behind a node.
type Pod struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Node      string            `json:"node"`
	Labels    map[string]string `json:"labels,omitempty"`
	// Listen is what its server answers on: http:8080, tcp:9000, udp:9000, sctp:9000.
	Listen    []string     `json:"listen"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Ready     bool         `json:"ready"`
}

// FaultKind names a fault.
type FaultKind string

// The faults, and what ends them. Heal ends all of one node.
const (
	// KillSpeaker kills a node's speaker with SIGKILL; it stays dead until StartSpeaker.
	KillSpeaker FaultKind = "kill-speaker"
	// StopSpeaker stops a node's speaker with SIGTERM, as an upgrade does; it stays away until StartSpeaker.
	StopSpeaker  FaultKind = "stop-speaker"
	StartSpeaker FaultKind = "start-speaker"
	// FreezeSpeaker stops a node's speaker with SIGSTOP, until ThawSpeaker.
	FreezeSpeaker FaultKind = "freeze-speaker"
	ThawSpeaker   FaultKind = "thaw-speaker"
	// RestartKubeProxy stops a node's kube-proxy with SIGTERM and starts it again, as an upgrade does.
	RestartKubeProxy FaultKind = "restart-kube-proxy"
	// StopKubeProxy stops a node's kube-proxy with SIGTERM; its rules stay, and it stays away until StartKubeProxy.
	StopKubeProxy  FaultKind = "stop-kube-proxy"
	StartKubeProxy FaultKind = "start-kube-proxy"
	// PowerOff takes a node's links down, kills all on it and forgets its kernel's state, until PowerOn.
	PowerOff FaultKind = "power-off"
	PowerOn  FaultKind = "power-on"
	// CutAPI drops what goes between a node and the API server.
	CutAPI FaultKind = "cut-api"
	// CutLAN keeps a node from every other host of the LAN; it still reaches the API server.
	CutLAN FaultKind = "cut-lan"
	// CutSending keeps what a node sends from every other host of the LAN, CutReceiving what they send from the node.
	CutSending   FaultKind = "cut-sending"
	CutReceiving FaultKind = "cut-receiving"
	// CutCarrier pulls a node's cable: its interface loses the carrier, and the API server is out of reach, too.
	CutCarrier FaultKind = "cut-carrier"
	Heal       FaultKind = "heal"
	// APIDown kills the API server, until APIUp. They have no target.
	APIDown FaultKind = "api-down"
	APIUp   FaultKind = "api-up"
	// SlowStore makes each write of the API server take up to 2 s, until QuickStore. They have no target.
	SlowStore  FaultKind = "slow-store"
	QuickStore FaultKind = "quick-store"
	// KillController kills the controller replica that leads, until StartController. They have no target.
	KillController  FaultKind = "kill-controller"
	StartController FaultKind = "start-controller"
)

// Process is a program of the cluster or of the product.
type Process struct {
	Name string `json:"name"`
	Host string `json:"host"`
	PID  int    `json:"pid"`
	// State is running, frozen, restarting or stopped.
	State    string `json:"state"`
	Restarts int    `json:"restarts"`
	// RSS is resident memory in bytes.
	RSS int64  `json:"rss"`
	Log string `json:"log"`
}

// signalOf is the number of a signal that can be passed on.
func signalOf(s os.Signal) (syscall.Signal, bool) {
	signal, ok := s.(syscall.Signal)
	return signal, ok
}
