package main

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/host"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/isolated"
	"github.com/fairlead/fairlead/pkg/netif"
	"github.com/fairlead/fairlead/pkg/nft"
	"github.com/fairlead/fairlead/pkg/speaker"
)

// layers are the kernel's parts that need to be opened, in either placement.
type layers struct {
	node    *Node
	host    *netif.Kernel // the node's own interfaces
	servers *ipvs.Kernel  // where the datapath is
	table   *nft.Table    // the same
	// Only in isolated placement:
	space   *isolated.Space
	joint   *isolated.Kernel
	outside *nft.Outside
}

// openLayers checks that this node has what the datapath needs and opens it. Its error lists all that is missing.
func openLayers(_ context.Context, node *Node) (*layers, error) {
	out := &layers{node: node}
	findings := host.Check(out.checks())
	if missing := host.Missing(findings); len(missing) > 0 {
		out.close()
		return nil, errors.New("this node lacks what Fairlead needs:\n" + host.Render(missing))
	}
	if err := out.open(); err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

// checks open what they try out.
func (l *layers) checks() host.Config {
	if !l.node.isolated() {
		return host.Config{
			IPVS:     func() (err error) { l.servers, err = ipvs.New(ipvs.Config{}); return err },
			NFTables: func() (err error) { l.table, err = nft.New(); return err },
		}
	}
	return host.Config{
		Isolated: true,
		Namespace: func() (made bool, err error) {
			there, err := isolated.Exists(l.node.space())
			if err == nil {
				l.space, err = isolated.Open(l.node.space())
			}
			return !there, err
		},
		IPVS: func() (err error) { l.servers, err = ipvs.New(ipvs.Config{Namespace: l.node.space()}); return err },
		NFTables: func() (err error) {
			if l.outside, err = newOutside(); err != nil {
				return err
			}
			if err := l.outside.Check(context.Background()); err != nil {
				return err
			}
			if l.space == nil {
				return nil // that is a finding of its own
			}
			return l.space.Do(func() (err error) { l.table, err = nft.New(); return err })
		},
	}
}

func newOutside() (*nft.Outside, error) {
	return nft.NewOutside(nft.OutsideConfig{
		Link: isolated.HostLink, Inside4: isolated.Inside4.Addr(), Inside6: isolated.Inside6.Addr(),
		Beat: isolated.Beat, BeatMax: isolated.BeatMax, Mark: isolated.Mark,
	})
}

func (l *layers) open() (err error) {
	if l.host, err = netif.New(); err != nil {
		return fmt.Errorf("open the node's interfaces: %w", err)
	}
	if l.space != nil {
		l.joint, err = isolated.New(l.space, l.outsideSysctls().Proxy)
	}
	return err
}

func (l *layers) outsideSysctls() *host.Sysctls {
	return l.node.sysctls(host.Outside, isolated.HostLink)
}

// kernel is what the datapath is made of.
func (l *layers) kernel(announcer *announce.Announcer) speaker.Kernel {
	if l.space == nil {
		return speaker.Kernel{
			Sysctls: l.node.sysctls("", ""), Table: l.table, Servers: l.servers, Addresses: l.host, Announcer: announcer,
		}
	}
	return speaker.Isolated{
		Inside: l.space.Do, Sysctls: l.node.sysctls(host.Inside, isolated.InsideLink), Table: l.table, Servers: l.servers,
		OutsideSysctls: l.outsideSysctls(), OutsideTable: l.outside,
		Interfaces: l.host, VIPs: l.joint, Link: isolated.HostLink,
	}.Kernel(announcer)
}

// leaveOther removes what a speaker in the other placement left on this node.
func (l *layers) leaveOther(ctx context.Context) error {
	leave := removeIsolated
	if l.node.isolated() {
		leave = removeFromHost
	}
	removed, err := leave(ctx, l.node)
	logger := klog.FromContext(ctx)
	for _, line := range removed {
		logger.Info("Removed what a speaker in another placement left", "removed", line)
	}
	if errors.Is(err, isolated.ErrStays) {
		logger.Info("A part of what a speaker in isolated placement left stays until fairlead-speaker cleanup has the rights to remove it", "why", err.Error())
		return nil
	}
	return err
}

func (l *layers) close() {
	if l.joint != nil {
		l.joint.Close()
	}
	if l.space != nil {
		l.space.Close()
	}
	if l.servers != nil {
		l.servers.Close()
	}
	if l.host != nil {
		l.host.Close()
	}
}

// removeFromHost removes what speakers in host placement left.
func removeFromHost(ctx context.Context, _ *Node) (removed []string, err error) {
	if there, _, err := nft.Tables(ctx); !there || err != nil {
		return nil, err // without the record nothing is ours
	}
	table, err := nft.New()
	if err != nil {
		return nil, err
	}
	servers, err := ipvs.New(ipvs.Config{})
	if err != nil {
		return nil, err
	}
	defer servers.Close()
	addresses, err := netif.New()
	if err != nil {
		return nil, err
	}
	defer addresses.Close()
	return speaker.Cleanup(ctx, table, servers, addresses)
}

// removeIsolated removes what speakers in isolated placement left. Its table goes last: it is the record of the rest. Left
// alone it would keep the host from answering for IPv6 VIPs.
func removeIsolated(ctx context.Context, node *Node) (removed []string, err error) {
	_, recorded, err := nft.Tables(ctx)
	if err != nil {
		return nil, err
	}
	present, err := isolated.Present(node.space())
	if err != nil || !present && !recorded {
		return nil, err
	}
	outside, err := newOutside()
	if err != nil {
		return nil, err
	}
	owned, err := outside.Owned(ctx)
	if err != nil {
		return nil, err
	}
	removed, stays := isolated.Remove(node.space(), owned)
	if stays != nil && !errors.Is(stays, isolated.ErrStays) {
		return removed, stays
	}
	if err := outside.Delete(ctx); err != nil {
		return removed, err
	}
	return append(removed, "nftables table inet fairlead-outside"), stays
}

// cleanup removes what speakers left on this node, in whichever placement, and puts sysctls back.
func cleanup(ctx context.Context, node *Node) error {
	var failures []error
	for _, remove := range []func(context.Context, *Node) ([]string, error){removeIsolated, removeFromHost} {
		removed, err := remove(ctx, node)
		for _, line := range removed {
			fmt.Println("removed", line)
		}
		failures = append(failures, err)
	}
	lines, err := node.sysctls("", "").Undo()
	for _, line := range lines {
		fmt.Println(line)
	}
	return errors.Join(append(failures, err)...)
}
