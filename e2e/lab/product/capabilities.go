package product

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// defaults are the capabilities a container has when it asks for none, as containerd and CRI-O grant them.
var defaults = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
	"SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// Confine is the command line that runs a container's process with no more capabilities than the container has.
func Confine(security *corev1.SecurityContext) []string {
	if security == nil {
		security = &corev1.SecurityContext{}
	}
	if security.Privileged != nil && *security.Privileged {
		return nil
	}
	granted, all := capabilities(security.Capabilities)
	if all {
		return nil
	}
	bounding := "-all"
	for _, c := range granted {
		bounding += ",+" + strings.ToLower(c)
	}
	argv := []string{"setpriv", "--inh-caps=-all", "--bounding-set=" + bounding}
	if escalation := security.AllowPrivilegeEscalation; escalation != nil && !*escalation {
		argv = append(argv, "--no-new-privs")
	}
	return append(argv, "--")
}

// capabilities are those a container has, sorted; all says that it has every one.
func capabilities(c *corev1.Capabilities) (granted []string, all bool) {
	if c == nil {
		return defaults, false
	}
	add, drop := names(c.Add), names(c.Drop)
	if slices.Contains(add, "ALL") {
		return nil, true
	}
	if !slices.Contains(drop, "ALL") {
		granted = slices.Clone(defaults)
		granted = slices.DeleteFunc(granted, func(name string) bool { return slices.Contains(drop, name) })
	}
	granted = append(granted, add...)
	slices.Sort(granted)
	return slices.Compact(granted), false
}

func names(capabilities []corev1.Capability) []string {
	var out []string
	for _, c := range capabilities {
		out = append(out, strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_"))
	}
	return out
}
