package nft

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// NAT rules see the first packet of a connection, and conntrack abides by what they said. One that began while the table was
// gone is never translated: its backend answers past this node however often the client asks again. So conntrack forgets what
// began like that once the table is back, and the next packet is a first one.

// flow is a connection as conntrack has it, with the addresses that its packets and the answers to them have.
type flow = netlink.ConntrackFlow

// forget removes the connections that match from the conntrack of the calling thread's namespace.
func forget(match func(*flow) bool) error {
	// One socket for all: to open and close one for each connection takes milliseconds.
	handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("have conntrack forget connections: %w", err)
	}
	defer handle.Close()
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := handle.ConntrackDeleteFilters(netlink.ConntrackTable, family, matcher(match)); err != nil {
			return fmt.Errorf("have conntrack forget connections: %w (needed: module nf_conntrack_netlink)", err)
		}
	}
	return nil
}

// matcher is a netlink.CustomConntrackFilter.
type matcher func(*flow) bool

func (m matcher) MatchConntrackFlow(f *flow) bool { return m(f) }

// untranslated reports whether a connection that may still begin keeps its source. A TCP connection of which more than a SYN was
// seen does not begin any more.
func untranslated(f *flow) bool {
	if f.Forward.Protocol == unix.IPPROTO_TCP {
		info, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP)
		if !ok || info.State != nl.TCP_CONNTRACK_SYN_SENT {
			return false
		}
	}
	return f.Reverse.DstIP.Equal(f.Forward.SrcIP)
}

// astray matches the connections that IPVS forwards for VIPs of a state, that keep their source and are not to keep it.
func astray(state State) func(*flow) bool {
	vips := map[netip.Addr]bool{}
	for _, vip := range state.VIPs {
		vips[vip] = true
	}
	kept := map[model.Translation]bool{}
	for _, translation := range state.Translations {
		kept[translation] = true
	}
	return func(f *flow) bool {
		vip, ok1 := netip.AddrFromSlice(f.Forward.DstIP)
		backend, ok2 := netip.AddrFromSlice(f.Reverse.SrcIP)
		vip, backend = vip.Unmap(), backend.Unmap()
		if !ok1 || !ok2 || !vips[vip] || backend == vip || !untranslated(f) {
			return false
		}
		for proto, number := range protocols {
			if number == f.Forward.Protocol {
				return !kept[model.Translation{VIP: vip, Backend: netip.AddrPortFrom(backend, f.Reverse.SrcPort), Proto: proto, Source: model.FromClient}]
			}
		}
		return false
	}
}

// Divert has conntrack forget the connections that this node and its pods sent to VIPs while another node had them: they would
// go on without IPVS, whose translation conntrack takes from the first packet only. The next packet of each is a first one.
// It may be called beside the other methods.
func (t *Table) Divert(vips []netip.Addr) error { return t.forget(passing(vips)) }

// passing matches the connections to VIPs that are not balanced here: the VIP itself answers them.
func passing(vips []netip.Addr) func(*flow) bool {
	of := map[netip.Addr]bool{}
	for _, vip := range vips {
		of[vip] = true
	}
	return func(f *flow) bool {
		vip, ok := netip.AddrFromSlice(f.Forward.DstIP)
		return ok && of[vip.Unmap()] && f.Reverse.SrcIP.Equal(f.Forward.DstIP)
	}
}

// leaking matches the connections that left the namespace of an isolated datapath with an address that nobody else knows.
func (c OutsideConfig) leaking(f *flow) bool {
	source, ok := netip.AddrFromSlice(f.Forward.SrcIP)
	source = source.Unmap()
	return ok && (source == c.Inside4 || source == c.Inside6) && untranslated(f)
}
