// Package host makes a node fit for the datapath, and says what a node lacks that it cannot give it.
//
// It owns the sysctls listed in this package, in one network namespace, and sets them to the one value each that the
// datapath needs. What they were is recorded; only Undo sets one back, and none that others may live by. It loads no modules
// and changes no firewall.
//
// It does not promise that a sysctl keeps its value; Apply is called again for that.
package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// State says what to do about a finding.
type State string

// The states of findings.
const (
	OK       State = "ok"
	Fixed    State = "fixed"     // it was not as needed, and is now
	Note     State = "note"      // it may matter, and the node can be used as it is
	NeedsYou State = "needs you" // without it the datapath does not work
)

// Finding is one thing that a node needs, or that may be in the way.
type Finding struct {
	What   string // "CAP_NET_ADMIN"
	State  State
	Detail string // what was found, of one that is not OK
	Why    string // what it is needed for
	Remedy string // what helps
}

// Config of Check.
type Config struct {
	// Proc is where procfs is mounted; empty means /proc.
	Proc string
	// Isolated says that the datapath is to be in a network namespace of its own.
	Isolated bool
	// IPVS and NFTables try out what the datapath uses, ending in an error that says what is missing. nil is not checked.
	IPVS, NFTables func() error
	// Namespace opens the datapath's network namespace in isolated placement, and says whether it had to make it.
	Namespace func() (made bool, err error)
}

// Bits of the capability sets (linux/capability.h).
const (
	capNetAdmin = 12
	capNetRaw   = 13
	capSysAdmin = 21
)

// Check returns a finding for everything that the datapath needs of a node, in a fixed order, the good ones too.
func Check(cfg Config) []Finding {
	proc := cfg.Proc
	if proc == "" {
		proc = "/proc"
	}
	findings := []Finding{
		capability(proc, "CAP_NET_ADMIN", capNetAdmin, "to program IPVS and nftables and to bind VIPs"),
		capability(proc, "CAP_NET_RAW", capNetRaw, "to announce VIPs by ARP and neighbour advertisements"),
	}
	if cfg.Isolated {
		findings = append(findings, capability(proc, "CAP_SYS_ADMIN", capSysAdmin, "to enter the datapath's network namespace"),
			attempt(cfg.Namespace, Finding{
				What: "network namespace", Why: "to keep the datapath apart from the host",
				Remedy: "mount the host's /run/fairlead, and have a privileged init container with mountPropagation Bidirectional " +
					"run fairlead-speaker check --placement=isolated, which makes the namespace (manifests/isolated does)",
			}))
	}
	findings = append(findings,
		try(cfg.IPVS, Finding{
			What: "IPVS", Why: "to balance connections",
			Remedy: "load module ip_vs on the node (modprobe ip_vs; a line ip_vs in /etc/modules-load.d keeps it), then start again",
		}),
		try(cfg.NFTables, Finding{
			What: "nftables", Why: "to close the VIPs' other ports and to translate the source of what is forwarded",
			Remedy: "run a kernel with nf_tables (CONFIG_NF_TABLES_INET), with the program nft in the image",
		}))
	return append(findings, ipv6(proc))
}

func try(f func() error, finding Finding) Finding {
	if f == nil {
		finding.State = OK
		return finding
	}
	return attempt(func() (bool, error) { return false, f() }, finding)
}

// attempt tries what may have to change something.
func attempt(f func() (changed bool, err error), finding Finding) Finding {
	changed, err := f()
	switch {
	case err != nil:
		finding.State, finding.Detail = NeedsYou, err.Error()
	case changed:
		finding.State = Fixed
	default:
		finding.State = OK
	}
	return finding
}

func capability(proc, name string, bit uint, why string) Finding {
	finding := Finding{
		What: name, State: NeedsYou, Why: why,
		Remedy: fmt.Sprintf("add %s to the container's capabilities (securityContext), or run as root", strings.TrimPrefix(name, "CAP_")),
	}
	status, err := os.ReadFile(filepath.Join(proc, "self", "status"))
	if err != nil {
		finding.Detail = err.Error()
		return finding
	}
	effective, err := parseCapabilities(string(status))
	if err != nil {
		finding.Detail = err.Error()
		return finding
	}
	if effective&(1<<bit) != 0 {
		finding.State = OK
	} else {
		finding.Detail = fmt.Sprintf("the effective capabilities are %#x", effective)
	}
	return finding
}

// parseCapabilities returns the effective set of /proc/PID/status (proc(5)): a line "CapEff:" with 16 hexadecimal digits.
func parseCapabilities(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		}
	}
	return 0, errors.New("/proc/self/status has no line CapEff")
}

func ipv6(proc string) Finding {
	finding := Finding{
		What: "IPv6", State: OK, Why: "for IPv6 VIPs",
		Remedy: "boot without ipv6.disable=1, with net.ipv6.conf.all.disable_ipv6=0",
	}
	name := filepath.Join(proc, "sys", "net", "ipv6", "conf", "all", "disable_ipv6")
	value, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		finding.State, finding.Detail = Note, "the kernel has no IPv6"
	case err != nil:
		finding.State, finding.Detail = Note, err.Error()
	case strings.TrimSpace(string(value)) != "0":
		finding.State, finding.Detail = Note, "net.ipv6.conf.all.disable_ipv6 is "+strings.TrimSpace(string(value))
	}
	return finding
}
