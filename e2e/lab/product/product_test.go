package product

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestExpand(t *testing.T) {
	variables := map[string]string{"NODE": "n1", "EMPTY": ""}
	for text, want := range map[string]string{
		"--node=$(NODE)":    "--node=n1",
		"$(NODE)/$(NODE)":   "n1/n1",
		"a$(EMPTY)b":        "ab",
		"$(UNKNOWN)":        "$(UNKNOWN)",
		"$$(NODE)":          "$(NODE)",
		"$$$(NODE)":         "$n1",
		"$(NODE":            "$(NODE",
		"5$ and $NODE":      "5$ and $NODE",
		"$":                 "$",
		"$(UNKNOWN$(NODE))": "$(UNKNOWN$(NODE))",
		"":                  "",
	} {
		if got := Expand(text, variables); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestRemap(t *testing.T) {
	for _, test := range [][4]string{
		{"--key=/etc/key/key", "/etc/key", "/tmp/v", "--key=/tmp/v/key"},
		{"--dir=/etc/key", "/etc/key/", "/tmp/v/", "--dir=/tmp/v"},
		{"/etc/key/a", "/etc/key", "/tmp/v", "/tmp/v/a"},
		{"--key=/etc/keys/a", "/etc/key", "/tmp/v", "--key=/etc/keys/a"},
		{"--text=see /etc/key", "/etc/key", "/tmp/v", "--text=see /etc/key"},
		{"--other", "/etc/key", "/tmp/v", "--other"},
	} {
		if got := Remap(test[0], test[1], test[2]); got != test[3] {
			t.Errorf("%s with %s at %s: got %s, want %s", test[0], test[2], test[1], got, test[3])
		}
	}
}

func TestConfine(t *testing.T) {
	yes, no := true, false
	for name, test := range map[string]struct {
		security *corev1.SecurityContext
		want     string
	}{
		"a container that asks for nothing has the runtime's defaults": {nil,
			"setpriv --inh-caps=-all --bounding-set=-all,+audit_write,+chown,+dac_override,+fowner,+fsetid,+kill,+mknod," +
				"+net_bind_service,+net_raw,+setfcap,+setgid,+setpcap,+setuid,+sys_chroot --"},
		"a privileged one is not confined": {&corev1.SecurityContext{Privileged: &yes}, ""},
		"dropping all leaves what is added": {&corev1.SecurityContext{
			AllowPrivilegeEscalation: &no,
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_RAW", "NET_ADMIN"}},
		}, "setpriv --inh-caps=-all --bounding-set=-all,+net_admin,+net_raw --no-new-privs --"},
		"dropping all and adding none leaves nothing": {&corev1.SecurityContext{
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}, "setpriv --inh-caps=-all --bounding-set=-all --"},
		"adding all is not confined": {&corev1.SecurityContext{
			Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"ALL"}},
		}, ""},
	} {
		if got := strings.Join(Confine(test.security), " "); got != test.want {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func template() corev1.PodTemplateSpec {
	create := corev1.HostPathDirectoryOrCreate
	from := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	secret := func(name string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: "key", Optional: optional,
		}}
	}
	yes := true
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "speaker", Image: "registry/speaker:1",
			Args: []string{"--node=$(NODE)", "--ips=$(IPS)", "--state=/state/x", "--key=/keys/$(NAME)", "--url=$(URL)"},
			Env: []corev1.EnvVar{
				{Name: "NODE", ValueFrom: from("spec.nodeName")}, {Name: "IPS", ValueFrom: from("status.hostIPs")},
				{Name: "NAME", ValueFrom: secret("there", nil)}, {Name: "NONE", ValueFrom: secret("absent", &yes)},
				{Name: "URL", Value: "http://$(NODE)"}, {Name: "APP", ValueFrom: from("metadata.labels['app']")},
			},
			SecurityContext: &corev1.SecurityContext{Privileged: &yes},
			Ports:           []corev1.ContainerPort{{Name: "health", ContainerPort: 7473}},
			ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
				HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromString("health")},
			}},
			VolumeMounts: []corev1.VolumeMount{{Name: "state", MountPath: "/state"}, {Name: "keys", MountPath: "/keys", SubPath: "sub"}},
		}},
		Volumes: []corev1.Volume{
			{Name: "state", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/run/fairlead", Type: &create}}},
			{Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys"}}},
		},
	}}
	template.Labels = map[string]string{"app": "speaker"}
	return template
}

var files = Files{
	Program: func(name string) string { return "/bin/" + name }, Kubeconfig: "/k", Volumes: map[string]string{"keys": "/tmp/v"},
	Value: func(_, name, _ string) (string, error) {
		if name == "absent" {
			return "", errors.New("not found")
		}
		return "secret", nil
	},
}

var instance = Instance{
	Name: "fairlead-speaker-n1", Namespace: Namespace, Node: "n1",
	HostIPs: []netip.Addr{netip.MustParseAddr("10.87.0.1"), netip.MustParseAddr("fd87::1")},
	PodIPs:  []netip.Addr{netip.MustParseAddr("10.87.0.1")},
}

func TestProcessOfAContainer(t *testing.T) {
	process, err := New(Speaker, template(), instance, files)
	if err != nil {
		t.Fatal(err)
	}
	wantArgv := []string{
		"/bin/fairlead-speaker", "--node=n1", "--ips=10.87.0.1,fd87::1", "--state=/run/fairlead/x", "--key=/tmp/v/sub/secret",
		"--url=http://n1", "--kubeconfig=/k",
	}
	if !slices.Equal(process.Argv, wantArgv) {
		t.Errorf("argv %q, want %q", process.Argv, wantArgv)
	}
	wantEnv := []string{"NODE=n1", "IPS=10.87.0.1,fd87::1", "NAME=secret", "URL=http://n1", "APP=speaker"}
	if !slices.Equal(process.Env, wantEnv) {
		t.Errorf("env %q, want %q", process.Env, wantEnv)
	}
	if process.Ready != "http://10.87.0.1:7473/readyz" || !slices.Equal(process.Mkdir, []string{"/run/fairlead"}) {
		t.Errorf("ready %q, mkdir %q", process.Ready, process.Mkdir)
	}
}

func TestCommandOfAContainerNamesTheProgram(t *testing.T) {
	spec := template()
	spec.Spec.Containers[0].Command = []string{"/usr/bin/other", "serve"}
	process, err := New(Speaker, spec, instance, files)
	if err != nil || process.Argv[0] != "/bin/other" || process.Argv[1] != "serve" {
		t.Errorf("argv %q, %v", process.Argv, err)
	}
}

func TestWhatTheLabCannotPlayIsAnError(t *testing.T) {
	spec := template()
	spec.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "X", ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.schedulerName"},
	}}}
	if _, err := New(Speaker, spec, instance, files); err == nil || !strings.Contains(err.Error(), "spec.schedulerName") {
		t.Errorf("got %v", err)
	}
	if _, err := New(Speaker, corev1.PodTemplateSpec{}, instance, files); err == nil {
		t.Error("a workload without containers became a process")
	}
}
