package nft

import (
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// NAT rules see the first packet of a connection, and conntrack abides by what they said. One that began while the table was
// gone is never translated: its backend answers past this node however often the client asks again. So conntrack forgets what
// began like that once the table is back, and the next packet is a first one.

// untranslated reports whether a connection that may still begin keeps its source. A TCP connection of which more than a SYN was
// seen does not begin any more.
func (f flow) untranslated() bool {
	if f.proto == unix.IPPROTO_TCP && f.tcpState != nl.TCP_CONNTRACK_SYN_SENT {
		return false
	}
	return f.replyDst.Addr() == f.src.Addr()
}

// astray matches the connections that IPVS forwards for VIPs of a state, that keep their source and are not to keep it.
func astray(state State) func(flow) bool {
	vips := setOf(state.VIPs)
	kept := setOf(state.Translations)
	return func(f flow) bool {
		vip := f.dst.Addr()
		if !vips[vip] || f.replySrc.Addr() == vip || !f.untranslated() {
			return false
		}
		for proto, number := range protocols {
			if number == f.proto {
				return !kept[model.Translation{VIP: vip, Backend: f.replySrc, Proto: proto, Source: model.FromClient}]
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
func passing(vips []netip.Addr) func(flow) bool {
	of := setOf(vips)
	return func(f flow) bool { return of[f.dst.Addr()] && f.replySrc.Addr() == f.dst.Addr() }
}

// leaking matches the connections that left the namespace of an isolated datapath with an address that nobody else knows.
func (c OutsideConfig) leaking(f flow) bool {
	source := f.src.Addr()
	return (source == c.Inside4 || source == c.Inside6) && f.untranslated()
}

func setOf[T comparable](items []T) map[T]bool {
	set := make(map[T]bool, len(items))
	for _, item := range items {
		set[item] = true
	}
	return set
}
