package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/serve"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// serverTimeout is how long a pod's server may take to listen.
const serverTimeout = 10 * time.Second

// pod is a host behind a node with a server, and its object.
type pod struct {
	cluster.Pod
	node    *node
	number  int
	service *service
}

// addPod makes a pod's host and server, then its object.
func (d *Driver) addPod(ctx context.Context, spec cluster.Pod) (cluster.Pod, error) {
	d.change.Lock()
	defer d.change.Unlock()
	if spec.Namespace == "" {
		spec.Namespace = metav1.NamespaceDefault
	}
	listens, err := serve.ParseListens(spec.Listen)
	if err != nil {
		return spec, err
	}
	n, err := d.node(spec.Node)
	if err != nil {
		return spec, err
	}
	if n.off {
		return spec, fmt.Errorf("node %s is powered off: lab fault power-on %s", n.name, n.name)
	}
	if slices.ContainsFunc(d.hosts(), func(h cluster.Host) bool { return h.Name == spec.Name }) {
		return spec, fmt.Errorf("a host is named %s already: choose another name", spec.Name)
	}
	if d.numbers[n.name] == topology.MaxPods {
		return spec, fmt.Errorf("node %s has had %d pods, and no more addresses: use another node", n.name, topology.MaxPods)
	}
	d.numbers[n.name]++
	p := &pod{Pod: spec, node: n, number: d.numbers[n.name]}
	p.Addresses, p.Ready = topology.Addresses(d.config.Families.PodAddresses(n.index, p.number)), true
	if err := d.plugPod(ctx, p); err != nil {
		return spec, errors.Join(err, d.remote.Delete(ctx, spec.Name))
	}
	argv := []string{"lab", "serve", "--name", spec.Name}
	for _, listen := range spec.Listen {
		argv = append(argv, "--listen", listen)
	}
	if p.service, err = d.service("pod-"+spec.Name, machine.Command{Host: spec.Name, Argv: argv}); err == nil {
		err = d.awaitServer(ctx, p)
	}
	if err == nil {
		err = d.postPod(ctx, p, listens)
	}
	if err != nil {
		return spec, errors.Join(err, d.removePod(ctx, p))
	}
	d.mu.Lock()
	d.pods = append(d.pods, p)
	d.mu.Unlock()
	return p.Pod, nil
}

// plugPod makes the pod's host and the node's side of its link.
func (d *Driver) plugPod(ctx context.Context, p *pod) error {
	f := d.config.Families
	if err := d.remote.Add(ctx, f.PodHost(p.Name, p.node.index, p.number)); err != nil {
		return err
	}
	return d.remote.Configure(ctx, p.node.name, f.PodNodeNetwork(p.node.index, p.number))
}

// awaitServer waits for the line that the server says once it listens.
func (d *Driver) awaitServer(ctx context.Context, p *pod) error {
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	return p.service.awaitOutput(ctx)
}

// postPod creates the Pod object and its status. A new namespace has no service account for a moment.
func (d *Driver) postPod(ctx context.Context, p *pod, listens []serve.Listen) error {
	no := false
	container := corev1.Container{Name: "server", Image: "lab"}
	for _, l := range listens {
		container.Ports = append(container.Ports, corev1.ContainerPort{
			Name: fmt.Sprintf("%s-%d", l.Protocol, l.Port), ContainerPort: int32(l.Port), Protocol: corev1.Protocol(l.Transport()),
		})
	}
	object := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, Labels: p.Labels},
		Spec: corev1.PodSpec{
			NodeName: p.Node, AutomountServiceAccountToken: &no, Containers: []corev1.Container{container},
			TerminationGracePeriodSeconds: new(int64),
		},
	}
	pods := d.kube.CoreV1().Pods(p.Namespace)
	created, err := pods.Create(ctx, object, metav1.CreateOptions{})
	for deadline := time.Now().Add(serverTimeout); apierrors.IsForbidden(err) && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
		created, err = pods.Create(ctx, object, metav1.CreateOptions{})
	}
	if err != nil {
		return fmt.Errorf("create Pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	created.Status.Phase = corev1.PodRunning
	for _, address := range p.Addresses {
		created.Status.PodIPs = append(created.Status.PodIPs, corev1.PodIP{IP: address.String()})
	}
	created.Status.PodIP = created.Status.PodIPs[0].IP
	created.Status.Conditions = conditions(true)
	if _, err := pods.UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update status of Pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// conditions are those a kubelet sets.
func conditions(ready bool) []corev1.PodCondition {
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	now := metav1.Now()
	return []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue, LastTransitionTime: now},
		{Type: corev1.ContainersReady, Status: status, LastTransitionTime: now},
		{Type: corev1.PodReady, Status: status, LastTransitionTime: now},
	}
}

// setPodReady patches a pod's conditions.
func (d *Driver) setPodReady(ctx context.Context, name string, ready bool) error {
	d.change.Lock()
	defer d.change.Unlock()
	p, err := d.pod(name)
	if err != nil {
		return err
	}
	pods := d.kube.CoreV1().Pods(p.Namespace)
	object, err := pods.Get(ctx, p.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read Pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	object.Status.Conditions = conditions(ready)
	if _, err := pods.UpdateStatus(ctx, object, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update status of Pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.Ready = ready
	return nil
}

// terminationGrace is longer than any test: nobody but deletePod ends a pod here.
const terminationGrace = int64(3600)

// terminatePod asks the API server to delete a pod in good time. There is no kubelet to do so, and the endpoint is one that
// terminates until deletePod.
func (d *Driver) terminatePod(ctx context.Context, name string) error {
	d.change.Lock()
	defer d.change.Unlock()
	p, err := d.pod(name)
	if err != nil {
		return err
	}
	grace := terminationGrace
	if err := d.kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		return fmt.Errorf("delete Pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// deletePod removes a pod's object, server and host.
func (d *Driver) deletePod(ctx context.Context, name string) error {
	d.change.Lock()
	defer d.change.Unlock()
	p, err := d.pod(name)
	if err != nil {
		return err
	}
	if err := d.removePod(ctx, p); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pods = slices.DeleteFunc(d.pods, func(other *pod) bool { return other == p })
	return nil
}

func (d *Driver) removePod(ctx context.Context, p *pod) error {
	err := d.kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete Pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	if p.service != nil {
		p.service.stop(syscall.SIGTERM, time.Second)
		d.mu.Lock()
		d.services = slices.DeleteFunc(d.services, func(s *service) bool { return s == p.service })
		d.mu.Unlock()
	}
	return d.remote.Delete(ctx, p.Name)
}

func (d *Driver) pod(name string) (*pod, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.pods {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no pod is named %s (lab pod list)", name)
}

func (d *Driver) node(name string) (*node, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for _, n := range d.nodes {
		if n.name == name {
			return n, nil
		}
		names = append(names, n.name)
	}
	return nil, fmt.Errorf("no node is named %q: there are %s", name, strings.Join(names, ", "))
}
