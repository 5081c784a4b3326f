package host

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// setting is one sysctl: its path below /proc/sys/net, the value it must have, what for, and what it means if there is none.
type setting struct {
	path, value, why, absent string
}

// What a missing file of each group means.
const (
	noIPVS      = "IPVS is not loaded in this network namespace: modprobe ip_vs"
	noConntrack = "connection tracking is not loaded: modprobe nf_conntrack"
)

// The settings, in the order in which they are written (linux/Documentation/networking/ipvs-sysctl.rst, ip-sysctl.rst,
// nf_conntrack-sysctl.rst).
var (
	balancing = []setting{
		{"ipv4/vs/conntrack", "1", "source translation works on conntrack entries", noIPVS},
		{"ipv4/vs/sloppy_tcp", "1", "a connection that another holder began goes on", noIPVS},
		{"ipv4/vs/conn_reuse_mode", "1", "a client's reused port is balanced anew", noIPVS},
		{"ipv4/vs/expire_nodest_conn", "1", "connections of a removed backend end", noIPVS},
		{"ipv4/vs/expire_quiescent_template", "1", "affinity to a draining backend ends", noIPVS},
	}
	forwarding = []setting{
		{"netfilter/nf_conntrack_tcp_be_liberal", "1", "a connection that another holder began is not called invalid", noConntrack},
		{"ipv4/ip_forward", "1", "packets go on to backends", ""},
	}
	// settings of host placement.
	settings = slices.Concat(balancing, forwarding)
)

// forwarding6 is apart: it changes how a host configures itself.
var forwarding6 = setting{"ipv6/conf/all/forwarding", "1", "packets go on to IPv6 backends", ""}

// Sysctls are those of one network namespace.
type Sysctls struct {
	// Root is where the namespace's /proc/sys/net is to be found; empty means there. A container that may not write its
	// own /proc/sys has the host's mounted elsewhere.
	Root string
	// Routes is the namespace's table of IPv6 routes; empty means /proc/thread-self/net/ipv6_route.
	Routes string
	// Side is where a datapath in isolated placement is looked at from; empty in host placement.
	Side Side
	// Link is the end of the link between the two sides that is on this one.
	Link string
	// Record is a file that keeps what the values were that were changed, for Undo; empty keeps nothing.
	Record string
}

// Side is one of the two namespaces of isolated placement.
type Side string

// The sides: the host's own namespace, and the datapath's.
const (
	Outside Side = "outside"
	Inside  Side = "inside"
)

// wanted are the settings but for those of IPv6 forwarding.
func (s *Sysctls) wanted() []setting {
	of := func(path, value, why string) setting {
		return setting{path: "ipv4/conf/" + path, value: value, why: why}
	}
	switch s.Side {
	case Outside:
		return append(slices.Clone(forwarding),
			of(s.Link+"/rp_filter", "2", "what leaves the datapath's namespace may have a client's source address"))
	case Inside:
		const comes, goes = "clients of all networks come by the one link", "all leave by the link that they came by"
		return slices.Concat(balancing, forwarding, []setting{
			of("all/rp_filter", "0", comes), of(s.Link+"/rp_filter", "0", comes),
			of("all/send_redirects", "0", goes), of(s.Link+"/send_redirects", "0", goes),
		})
	default:
		return settings
	}
}

// Proxy sets what lets the kernel answer at once for VIPs on an interface that are reached by another one.
func (s *Sysctls) Proxy(name string) error {
	const delay, answer = "requests for VIPs are answered at once", "neighbour solicitations for VIPs are answered"
	wanted := []setting{{path: "ipv4/neigh/" + name + "/proxy_delay", value: "0", why: delay}}
	if _, err := s.read("ipv6/conf/" + name + "/proxy_ndp"); err == nil {
		wanted = append(wanted,
			setting{path: "ipv6/neigh/" + name + "/proxy_delay", value: "0", why: delay},
			setting{path: "ipv6/conf/" + name + "/proxy_ndp", value: "1", why: answer})
	}
	for _, setting := range wanted {
		if _, err := s.set(setting); err != nil {
			return err
		}
	}
	return nil
}

// Apply reads every sysctl that the datapath needs and writes those that differ. It returns the names of those that it
// changed, as sysctl(8) writes them. It goes on past one that fails; the errors of all are joined and say what to do.
// A kernel without IPv6 is left at that.
func (s *Sysctls) Apply() (changed []string, err error) {
	changed, err = s.setAll(s.wanted())
	names, err6 := s.forwardIPv6()
	return append(changed, names...), errors.Join(err, err6)
}

// Check does what Apply does, and returns a finding for every sysctl.
func (s *Sysctls) Check() []Finding {
	var findings []Finding
	for _, setting := range s.wanted() {
		before, _ := s.read(setting.path) // set tells of an error
		finding := attempt(func() (bool, error) { return s.set(setting) }, Finding{What: "sysctl " + dotted(setting.path), Why: setting.why})
		if finding.State == Fixed {
			finding.Detail = fmt.Sprintf("was %s, is %s", before, setting.value)
		}
		findings = append(findings, finding)
	}
	changed, err := s.forwardIPv6()
	for _, name := range changed {
		findings = append(findings, Finding{What: "sysctl " + name, State: Fixed, Why: forwarding6.why})
	}
	forwarding := Finding{What: "sysctl " + dotted(forwarding6.path), State: OK, Why: forwarding6.why}
	if err != nil {
		forwarding.State, forwarding.Detail = NeedsYou, err.Error()
	}
	if _, absent := s.read(forwarding6.path); absent == nil && len(changed) == 0 || err != nil {
		findings = append(findings, forwarding)
	}
	return findings
}

// setAll goes on past a setting that fails.
func (s *Sysctls) setAll(all []setting) (changed []string, err error) {
	var failures []error
	for _, setting := range all {
		done, err := s.set(setting)
		if err != nil {
			failures = append(failures, err)
		}
		if done {
			changed = append(changed, dotted(setting.path))
		}
	}
	return changed, errors.Join(failures...)
}

// forwardIPv6 switches IPv6 forwarding on. A host that forwards ignores router advertisements unless told otherwise
// (accept_ra=2, ip-sysctl.rst): interfaces that live on them are told first, or the node loses its default route.
func (s *Sysctls) forwardIPv6() (changed []string, err error) {
	value, err := s.read(forwarding6.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no IPv6
	}
	if err == nil && value == forwarding6.value {
		return nil, nil
	}
	names, err := s.advertised()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		path := "ipv6/conf/" + name + "/accept_ra"
		if value, err := s.read(path); err != nil || value != "1" {
			continue // gone, or somebody decided otherwise
		}
		done, err := s.set(setting{path: path, value: "2", why: "router advertisements are heeded while forwarding"})
		if err != nil {
			return changed, fmt.Errorf("IPv6 forwarding is left off, since %s would lose what it has from router advertisements: %w", name, err)
		}
		if done {
			changed = append(changed, dotted(path))
		}
	}
	done, err := s.set(forwarding6)
	if done {
		changed = append(changed, dotted(forwarding6.path))
	}
	return changed, err
}

// advertised returns the interfaces that have routes from router advertisements.
func (s *Sysctls) advertised() ([]string, error) {
	name := cmp.Or(s.Routes, "/proc/thread-self/net/ipv6_route")
	table, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which interfaces have routes from router advertisements: %w", err)
	}
	return parseAdvertised(string(table)), nil
}

func (s *Sysctls) file(path string) string {
	return filepath.Join(cmp.Or(s.Root, "/proc/sys/net"), filepath.FromSlash(path))
}

func (s *Sysctls) read(path string) (string, error) {
	value, err := os.ReadFile(s.file(path))
	return strings.TrimSpace(string(value)), err
}

// set writes a sysctl unless it has the value already, and reads it back.
func (s *Sysctls) set(want setting) (changed bool, err error) {
	fail := func(err error, remedy string) error {
		return fmt.Errorf("sysctl %s must be %s (%s): %w: %s", dotted(want.path), want.value, want.why, err, remedy)
	}
	remedy := fmt.Sprintf("set it on the node (sysctl -w %s=%s), or let the speaker write %s (mount the host's /proc/sys/net)",
		dotted(want.path), want.value, s.file(want.path))
	found, err := s.read(want.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, fail(err, cmp.Or(want.absent, "this kernel is too old or was built without it"))
	}
	if err != nil {
		return false, fail(err, remedy)
	}
	if found == want.value {
		return false, nil
	}
	if err := s.note(want.path, found, want.value); err != nil {
		return false, err
	}
	if err := os.WriteFile(s.file(want.path), []byte(want.value+"\n"), 0); err != nil {
		return false, fail(fmt.Errorf("it is %s and cannot be written: %w", found, err), remedy)
	}
	now, err := s.read(want.path)
	if err == nil && now != want.value {
		err = fmt.Errorf("it was %s, and is %q after writing it", found, now)
	}
	if err != nil {
		return true, fail(err, remedy)
	}
	return true, nil
}

// dotted is the path as sysctl(8) writes it: separators are dots, and the dot of a name like eth0.100 is a slash.
func dotted(path string) string {
	return "net." + strings.NewReplacer(".", "/", "/", ".").Replace(path)
}
