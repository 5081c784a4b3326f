package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/product"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

const (
	// tokenLifetime is longer than any run.
	tokenLifetime = 7 * 24 * time.Hour
	// applyAttempts: the first can meet a CRD that is not served yet.
	applyAttempts = 5
	// readyTimeout is how long a process of the product may take until its readiness probe succeeds.
	readyTimeout = 60 * time.Second
)

// workload is one of the product's as the API server has it.
type workload struct {
	name     string
	template corev1.PodTemplateSpec
	kube     string
	volumes  map[string]string
}

// checkProduct says early what would stop the installation late.
func (d *Driver) checkProduct() error {
	if !exists(d.config.Manifests) {
		return fmt.Errorf("no manifests at %s: give them by --manifests, or --product none", d.config.Manifests)
	}
	for _, name := range []string{product.Controller, product.Speaker} {
		if path := filepath.Join(d.config.Programs, name); !exists(path) {
			return fmt.Errorf("no program %s: build it first (make build)", path)
		}
	}
	return nil
}

// install applies the manifests and plays the kubelet for the workloads in them.
func (d *Driver) install(ctx context.Context) error {
	if err := d.apply(ctx); err != nil {
		return err
	}
	deployment, err := d.kube.AppsV1().Deployments(product.Namespace).Get(ctx, product.Controller, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read back Deployment %s: %w", product.Controller, err)
	}
	daemons, err := d.kube.AppsV1().DaemonSets(product.Namespace).Get(ctx, product.Speaker, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read back DaemonSet %s: %w", product.Speaker, err)
	}
	replicas := 1
	if deployment.Spec.Replicas != nil {
		replicas = int(*deployment.Spec.Replicas)
	}
	if room := topology.MaxReplicas - d.before.controllers; replicas > room {
		return fmt.Errorf("%d replicas of Deployment %s: the lab has room for %d", replicas, product.Controller, room)
	}
	ready := map[*service]string{}
	if err := d.startControllers(ctx, deployment.Spec.Template, replicas, ready); err != nil {
		return err
	}
	if err := d.startSpeakers(ctx, daemons.Spec.Template, ready); err != nil {
		return err
	}
	for s, url := range ready {
		if err := d.awaitReady(ctx, s, url); err != nil {
			return err
		}
	}
	d.progress("product ready: %d controllers, %d speakers (%s)", replicas, len(d.nodes), d.elapsed())
	return nil
}

func (d *Driver) apply(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := d.do(ctx, topology.ControlPlane, nil, "kubectl", "apply", "-k", d.config.Manifests)
		if err == nil || attempt == applyAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
}

func (d *Driver) startControllers(ctx context.Context, template corev1.PodTemplateSpec, replicas int, ready map[*service]string) error {
	w, err := d.workload(ctx, product.Controller, template)
	if err != nil {
		return err
	}
	f := d.config.Families
	for k := d.before.controllers; k < d.before.controllers+replicas; k++ {
		host := f.ControllerHost(product.Controller, k)
		if err := d.addLocal(host); err != nil {
			return err
		}
		if err := d.local.Configure(topology.ControlPlane, f.ControllerPeerNetwork(k)); err != nil {
			return err
		}
		addresses := hostAddresses(host)
		command, url, err := d.newProcess(ctx, w, product.Instance{
			Name: host.Name, Namespace: product.Namespace, Node: topology.ControlPlane, HostIPs: addresses, PodIPs: addresses,
		}, host.Name)
		if err != nil {
			return err
		}
		s, err := d.service(host.Name, command)
		if err != nil {
			return err
		}
		ready[s] = url
		d.mu.Lock()
		d.controllers = append(d.controllers, s)
		d.mu.Unlock()
	}
	return nil
}

func (d *Driver) startSpeakers(ctx context.Context, template corev1.PodTemplateSpec, ready map[*service]string) error {
	w, err := d.workload(ctx, product.Speaker, template)
	if err != nil {
		return err
	}
	for _, n := range d.nodes {
		addresses := topology.Addresses(d.config.Families.NodeAddresses(n.index))
		command, url, err := d.newProcess(ctx, w, product.Instance{
			Name: speakerOf(n.name), Namespace: product.Namespace, Node: n.name, HostIPs: addresses, PodIPs: addresses,
		}, n.name)
		if err != nil {
			return err
		}
		s, err := d.nodeService(n, speakerOf(n.name), command)
		if err != nil {
			return err
		}
		ready[s] = url
	}
	return nil
}

// speakerOf is the name of a node's speaker, as a process and as a pod.
func speakerOf(node string) string { return product.Speaker + "-" + node }

// newProcess is the process of an instance.
func (d *Driver) newProcess(ctx context.Context, w workload, instance product.Instance, host string) (machine.Command, string, error) {
	process, err := product.New(w.name, w.template, instance, product.Files{
		Program:    func(name string) string { return filepath.Join(d.config.Programs, name) },
		Kubeconfig: w.kube, Volumes: w.volumes,
		Value: func(kind, name, key string) (string, error) {
			values, err := d.values(ctx, kind, name)
			if value, ok := values[key]; ok && err == nil {
				return string(value), nil
			}
			return "", errors.Join(fmt.Errorf("%s %s has no key %s", kind, name, key), err)
		},
	})
	command := machine.Command{Host: host, Argv: process.Argv, Env: append(d.env(), process.Env...), Mkdir: process.Mkdir}
	return command, process.Ready, err
}

// workload makes what all instances of a workload share: the service account's kubeconfig and the volumes' files.
func (d *Driver) workload(ctx context.Context, name string, template corev1.PodTemplateSpec) (workload, error) {
	account := template.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	w := workload{name: name, template: template, kube: d.dir.file(name + ".kubeconfig"), volumes: map[string]string{}}
	seconds := int64(tokenLifetime.Seconds())
	token, err := d.kube.CoreV1().ServiceAccounts(product.Namespace).CreateToken(ctx, account,
		&authv1.TokenRequest{Spec: authv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		return w, fmt.Errorf("token of ServiceAccount %s: %w", account, err)
	}
	if err := d.plane.WriteKubeconfig(w.kube, token.Status.Token); err != nil {
		return w, err
	}
	for _, volume := range template.Spec.Volumes {
		var values map[string][]byte
		var optional *bool
		switch {
		case volume.Secret != nil:
			values, err = d.values(ctx, "Secret", volume.Secret.SecretName)
			optional = volume.Secret.Optional
		case volume.ConfigMap != nil:
			values, err = d.values(ctx, "ConfigMap", volume.ConfigMap.Name)
			optional = volume.ConfigMap.Optional
		case volume.EmptyDir == nil:
			continue
		}
		if err != nil && (optional == nil || !*optional) {
			return w, fmt.Errorf("volume %s of %s: %w", volume.Name, name, err)
		}
		path := d.dir.file(filepath.Join("volumes", name, volume.Name))
		if err := writeFiles(path, values); err != nil {
			return w, fmt.Errorf("volume %s of %s: %w", volume.Name, name, err)
		}
		w.volumes[volume.Name] = path
	}
	return w, nil
}

// values are the keys of a Secret or ConfigMap in the product's namespace.
func (d *Driver) values(ctx context.Context, kind, name string) (map[string][]byte, error) {
	if kind == "Secret" {
		secret, err := d.kube.CoreV1().Secrets(product.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("read Secret %s: %w", name, err)
		}
		return secret.Data, nil
	}
	object, err := d.kube.CoreV1().ConfigMaps(product.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read ConfigMap %s: %w", name, err)
	}
	values := map[string][]byte{}
	for key, value := range object.Data {
		values[key] = []byte(value)
	}
	return values, nil
}

func writeFiles(dir string, values map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	for name, value := range values {
		if err := os.WriteFile(filepath.Join(dir, name), value, 0o600); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	return nil
}

// awaitReady waits for a readiness probe to succeed, asked on the process's own host. Without a URL there is none.
func (d *Driver) awaitReady(ctx context.Context, s *service, url string) error {
	if url == "" {
		return nil
	}
	err := d.do(ctx, s.command.Host, nil, "lab", "probe", "--every=100ms", "--timeout=1s", "--until-answer",
		"--for", readyTimeout.String(), "--", url)
	if err != nil {
		return fmt.Errorf("%s is not ready at %s (log: %s): %w", s.name, url, s.log, err)
	}
	return nil
}

func hostAddresses(host machine.Host) []netip.Addr {
	var addresses []netip.Addr
	for _, a := range host.Network.Addresses {
		addresses = append(addresses, a.Prefix.Addr())
	}
	return addresses
}
