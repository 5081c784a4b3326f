package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/fairlead/fairlead/pkg/host"
	"github.com/fairlead/fairlead/pkg/isolated"
	"github.com/fairlead/fairlead/pkg/nft"
)

// check prepares this node as serve does and prints what it found.
func check(ctx context.Context, node *Node) error {
	l := &layers{node: node}
	defer l.close()
	findings := host.Check(l.checks())
	if l.servers != nil {
		findings = append(findings, l.schedulers()...)
	}
	findings = append(findings, l.sysctls()...)
	findings = append(findings, l.neighbours(ctx)...)
	fmt.Print(host.Render(findings))
	if missing := host.Missing(findings); len(missing) > 0 {
		return fmt.Errorf("%d of %d items need you: see the table", len(missing), len(findings))
	}
	return nil
}

// optional are the schedulers of pools besides the default one (ipvsadm(8)).
var optional = []string{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf"}

func (l *layers) schedulers() []host.Finding {
	finding := host.Finding{What: "IPVS schedulers", State: host.OK, Why: "for pools that name another scheduler than mh"}
	lacking, err := l.servers.Lacking(optional)
	if err != nil {
		finding.State, finding.Detail = host.NeedsYou, err.Error()
	} else if len(lacking) > 0 {
		finding.State, finding.Detail = host.Note, "the kernel has no "+strings.Join(lacking, ", ")
		finding.Remedy = "modprobe ip_vs_" + strings.Join(lacking, " ip_vs_") + ", if a pool is to name it"
	}
	return []host.Finding{finding}
}

func (l *layers) sysctls() []host.Finding {
	if !l.node.isolated() {
		return l.node.sysctls("", "").Check()
	}
	if l.space == nil {
		return nil // nothing to look at; that is a finding of its own
	}
	if err := l.open(); err != nil {
		return []host.Finding{{
			What: "link " + isolated.HostLink, State: host.NeedsYou, Detail: err.Error(), Why: "to join the datapath with the host",
			Remedy: "load module veth (modprobe veth); no other interface may be called " + isolated.HostLink,
		}}
	}
	findings := l.outsideSysctls().Check()
	err := l.space.Do(func() error {
		for _, finding := range l.node.sysctls(host.Inside, isolated.InsideLink).Check() {
			finding.What += " (inside)"
			findings = append(findings, finding)
		}
		return nil
	})
	if err != nil {
		findings = append(findings, host.Finding{What: "sysctls (inside)", State: host.NeedsYou, Detail: err.Error(), Why: "to balance connections"})
	}
	return findings
}

// neighbours are what others do on this node.
func (l *layers) neighbours(ctx context.Context) []host.Finding {
	return append(l.droppers(ctx), l.kubeProxy())
}

// droppers: every chain of a hook has to agree, so that a table of ours cannot let pass what another drops.
func (l *layers) droppers(ctx context.Context) []host.Finding {
	finding := host.Finding{What: "forwarding firewalls", State: host.OK, Why: "what is forwarded to and from backends must pass"}
	droppers, err := nft.Droppers(ctx)
	if err != nil {
		finding.State, finding.Detail = host.Note, err.Error()
		return []host.Finding{finding}
	}
	for _, d := range droppers {
		if l.node.isolated() && d.Names(isolated.HostLink) {
			continue
		}
		finding.Detail = d.String() + " drops by its policy what no rule of it lets pass"
		if l.node.isolated() {
			finding.State = host.NeedsYou
			rule := fmt.Sprintf("nft insert rule %s %s %s", d.Family, d.Table, d.Chain)
			finding.Remedy = fmt.Sprintf("%s iifname %q accept; %s oifname %q accept, and in what sets that firewall up",
				rule, isolated.HostLink, rule, isolated.HostLink)
		} else {
			finding.State, finding.Remedy = host.Note, "let it accept established connections, and those of the backends' networks"
		}
	}
	if legacy, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil && strings.Contains(string(legacy), "filter") && finding.State == host.OK {
		finding.State, finding.Detail = host.Note, "this node has rules of iptables-legacy, which cannot be read from here"
		finding.Remedy = "look whether iptables-legacy -S FORWARD begins with -P FORWARD DROP"
	}
	return []host.Finding{finding}
}

// kubeProxy: in ipvs mode it has a device of this name (pkg/proxy/ipvs of Kubernetes, defaultDummyDevice).
func (l *layers) kubeProxy() host.Finding {
	const device = "kube-ipvs0"
	finding := host.Finding{What: "kube-proxy", State: host.OK, Why: "in ipvs mode it deletes every IPVS service that is not its own"}
	if _, err := os.Stat("/sys/class/net/" + device); err == nil && !l.node.isolated() {
		finding.State, finding.Detail = host.Note, "it runs in ipvs mode, or did: there is an interface "+device
		finding.Remedy = "list the addresses of the pools in ipvs.excludeCIDRs of its configuration, or run the speakers with --placement=isolated"
	}
	return finding
}
