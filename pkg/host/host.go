// Package host makes a node fit for the datapath, and says what a node lacks that it cannot give it.
//
// It owns the sysctls listed in this package, in one network namespace, and sets them to the one value each that the
// datapath needs. It never sets one back: somebody else may have come to rely on it. It loads no modules and changes no
// firewall.
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

// Finding is one thing that a node needs.
type Finding struct {
	What   string // "CAP_NET_ADMIN"
	OK     bool
	Detail string // what was found, of one that is missing
	Why    string // what it is needed for
	Remedy string // what helps
}

// Config of Check.
type Config struct {
	// Proc is where procfs is mounted; empty means /proc.
	Proc string
	// IPv6 says that there are IPv6 VIPs.
	IPv6 bool
	// Isolated says that the datapath is to be in a network namespace of its own.
	Isolated bool
	// IPVS and NFTables try out what the datapath uses, ending in an error that says what is missing. nil is not checked.
	IPVS, NFTables func() error
	// Namespace opens the datapath's network namespace, in isolated placement.
	Namespace func() error
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
			try(cfg.Namespace, Finding{
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
	if cfg.IPv6 {
		findings = append(findings, ipv6(proc))
	}
	return findings
}

func try(f func() error, finding Finding) Finding {
	finding.OK = true
	if f != nil {
		if err := f(); err != nil {
			finding.OK, finding.Detail = false, err.Error()
		}
	}
	return finding
}

func capability(proc, name string, bit uint, why string) Finding {
	finding := Finding{
		What: name, Why: why,
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
	finding.OK = effective&(1<<bit) != 0
	if !finding.OK {
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
		What: "IPv6", Why: "for IPv6 VIPs", OK: true,
		Remedy: "boot without ipv6.disable=1, with net.ipv6.conf.all.disable_ipv6=0",
	}
	name := filepath.Join(proc, "sys", "net", "ipv6", "conf", "all", "disable_ipv6")
	value, err := os.ReadFile(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
		finding.OK, finding.Detail = false, "the kernel has no IPv6"
	case err != nil:
		finding.OK, finding.Detail = false, err.Error()
	case strings.TrimSpace(string(value)) != "0":
		finding.OK, finding.Detail = false, "net.ipv6.conf.all.disable_ipv6 is "+strings.TrimSpace(string(value))
	}
	return finding
}

// Missing returns the findings that are not OK.
func Missing(findings []Finding) []Finding {
	var missing []Finding
	for _, f := range findings {
		if !f.OK {
			missing = append(missing, f)
		}
	}
	return missing
}

// Render returns the findings as a message of several lines: what is missing, why it matters and what helps, then what is
// there.
func Render(findings []Finding) string {
	missing := Missing(findings)
	var b strings.Builder
	if len(missing) > 0 {
		b.WriteString("this node lacks what Fairlead needs:\n")
	}
	for _, f := range missing {
		fmt.Fprintf(&b, "  %s: missing; needed %s\n", f.What, f.Why)
		if f.Detail != "" {
			fmt.Fprintf(&b, "      found:  %s\n", f.Detail)
		}
		fmt.Fprintf(&b, "      remedy: %s\n", f.Remedy)
	}
	var there []string
	for _, f := range findings {
		if f.OK {
			there = append(there, f.What)
		}
	}
	if len(there) > 0 {
		fmt.Fprintf(&b, "in order: %s\n", strings.Join(there, ", "))
	}
	return b.String()
}
