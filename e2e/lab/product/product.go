// Package product turns the workloads of the product's manifests into processes, as a kubelet would into containers. It is
// pure: it reads pod templates and starts nothing. Of the product it knows no more than its workloads' names.
package product

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Names of the workloads, as the manifests have them.
const (
	Namespace  = "fairlead-system"
	Controller = "fairlead-controller"
	Speaker    = "fairlead-speaker"
)

// Instance is the pod a process plays.
type Instance struct {
	Name, Namespace, Node string
	HostIPs, PodIPs       []netip.Addr
}

// Files are what a process finds in place of the volumes and references of its pod.
type Files struct {
	// Program is the path of a program by its name.
	Program func(name string) string
	// Kubeconfig is the path of the service account's.
	Kubeconfig string
	// Volumes are paths by the names of volumes; HostPath volumes are where they say.
	Volumes map[string]string
	// Value is that of a key in a Secret or ConfigMap.
	Value func(kind, name, key string) (string, error)
}

// Process is what to run.
type Process struct {
	Argv, Env, Mkdir []string
	// Ready is the URL of the readiness probe, if there is one by HTTP.
	Ready string
}

// New makes a process of the first container of a pod template. Its program is the container's command, or else named as
// the workload is.
func New(workload string, template corev1.PodTemplateSpec, instance Instance, files Files) (Process, error) {
	if len(template.Spec.Containers) == 0 {
		return Process{}, fmt.Errorf("workload %s has no containers", workload)
	}
	container := template.Spec.Containers[0]
	variables, env, err := environment(container, template, instance, files)
	if err != nil {
		return Process{}, fmt.Errorf("workload %s, container %s: %w", workload, container.Name, err)
	}
	command := append([]string{workload}, container.Args...)
	if len(container.Command) > 0 {
		command = append(append([]string{}, container.Command...), container.Args...)
	}
	process := Process{Env: env, Ready: readiness(container, instance)}
	paths := map[string]string{}
	for _, volume := range template.Spec.Volumes {
		if host := volume.HostPath; host != nil {
			paths[volume.Name] = host.Path
			if host.Type != nil && *host.Type == corev1.HostPathDirectoryOrCreate {
				process.Mkdir = append(process.Mkdir, host.Path)
			}
		} else if path, ok := files.Volumes[volume.Name]; ok {
			paths[volume.Name] = path
		}
	}
	process.Argv = append(Confine(container.SecurityContext), files.Program(filepath.Base(command[0])))
	for _, arg := range command[1:] {
		arg = Expand(arg, variables)
		for _, mount := range container.VolumeMounts {
			path, ok := paths[mount.Name]
			if !ok {
				continue
			}
			if moved := Remap(arg, mount.MountPath, filepath.Join(path, mount.SubPath)); moved != arg {
				arg = moved
				break
			}
		}
		process.Argv = append(process.Argv, arg)
	}
	process.Argv = append(process.Argv, "--kubeconfig="+files.Kubeconfig)
	return process, nil
}

func environment(
	container corev1.Container, template corev1.PodTemplateSpec, instance Instance, files Files,
) (map[string]string, []string, error) {
	variables := map[string]string{}
	var env []string
	for _, variable := range container.Env {
		value := Expand(variable.Value, variables)
		if from := variable.ValueFrom; from != nil {
			var err error
			var optional bool
			switch {
			case from.FieldRef != nil:
				value, err = field(from.FieldRef.FieldPath, template, instance)
			case from.SecretKeyRef != nil:
				optional = from.SecretKeyRef.Optional != nil && *from.SecretKeyRef.Optional
				value, err = files.Value("Secret", from.SecretKeyRef.Name, from.SecretKeyRef.Key)
			case from.ConfigMapKeyRef != nil:
				optional = from.ConfigMapKeyRef.Optional != nil && *from.ConfigMapKeyRef.Optional
				value, err = files.Value("ConfigMap", from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Key)
			default:
				// resourceFieldRef: a process of the lab has no limits to read.
				optional, err = true, fmt.Errorf("no value")
			}
			if err != nil && optional {
				continue
			}
			if err != nil {
				return nil, nil, fmt.Errorf("variable %s: %w", variable.Name, err)
			}
		}
		variables[variable.Name] = value
		env = append(env, variable.Name+"="+value)
	}
	return variables, env, nil
}

func field(path string, template corev1.PodTemplateSpec, instance Instance) (string, error) {
	switch path {
	case "metadata.name":
		return instance.Name, nil
	case "metadata.namespace":
		return instance.Namespace, nil
	case "metadata.uid":
		return instance.Namespace + "-" + instance.Name, nil
	case "spec.nodeName":
		return instance.Node, nil
	case "spec.serviceAccountName":
		return template.Spec.ServiceAccountName, nil
	case "status.hostIP":
		return join(instance.HostIPs[:min(1, len(instance.HostIPs))]), nil
	case "status.hostIPs":
		return join(instance.HostIPs), nil
	case "status.podIP":
		return join(instance.PodIPs[:min(1, len(instance.PodIPs))]), nil
	case "status.podIPs":
		return join(instance.PodIPs), nil
	}
	for kind, values := range map[string]map[string]string{
		"labels": template.Labels, "annotations": template.Annotations,
	} {
		if key, ok := strings.CutPrefix(path, "metadata."+kind+"['"); ok {
			return values[strings.TrimSuffix(key, "']")], nil
		}
	}
	return "", fmt.Errorf("the lab knows no field %s", path)
}

func join(addresses []netip.Addr) string {
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}

// readiness is the URL a kubelet would ask.
func readiness(container corev1.Container, instance Instance) string {
	probe := container.ReadinessProbe
	if probe == nil || probe.HTTPGet == nil {
		return ""
	}
	get := probe.HTTPGet
	port := get.Port.IntValue()
	if get.Port.Type == intstr.String {
		for _, p := range container.Ports {
			if p.Name == get.Port.StrVal {
				port = int(p.ContainerPort)
			}
		}
	}
	host := get.Host
	if host == "" && len(instance.PodIPs) > 0 {
		host = instance.PodIPs[0].String()
	}
	scheme := strings.ToLower(string(get.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	return fmt.Sprintf("%s://%s%s", scheme, net.JoinHostPort(host, fmt.Sprint(port)), "/"+strings.TrimPrefix(get.Path, "/"))
}
