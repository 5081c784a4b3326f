package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// flow is a connection as conntrack has it: where its packets come from and go to, and where the answers to them do. Of a protocol
// without ports these are 0.
type flow struct {
	proto              uint8
	src, dst           netip.AddrPort
	replySrc, replyDst netip.AddrPort
	tcpState           uint8 // of TCP only (linux/netfilter/nf_conntrack_tcp.h)
}

// forget removes the connections that match from the conntrack of the calling thread's namespace. A node may have millions, so they
// are looked at as they come, and only those that match are kept until all were seen.
func forget(match func(flow) bool) error {
	// One socket for all: to open and close one for each connection takes milliseconds.
	socket, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("have conntrack forget connections: %w", err)
	}
	defer socket.Close()
	sockets := map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: socket}}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := forgetOf(family, sockets, match); err != nil {
			return fmt.Errorf("have conntrack forget connections: %w (needed: module nf_conntrack_netlink)", err)
		}
	}
	return nil
}

func forgetOf(family uint8, sockets map[int]*nl.SocketHandle, match func(flow) bool) error {
	request := func(operation, flags int) *nl.NetlinkRequest {
		req := nl.NewNetlinkRequest(int(netlink.ConntrackTable)<<8|operation, flags)
		req.Sockets = sockets
		req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
		return req
	}
	var matching [][]byte
	failed := request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP).ExecuteIter(unix.NETLINK_NETFILTER, 0, func(message []byte) bool {
		if len(message) >= nl.SizeofNfgenmsg {
			if attributes := message[nl.SizeofNfgenmsg:]; match(parseFlow(attributes)) {
				matching = append(matching, bytes.Clone(attributes))
			}
		}
		return true
	})
	for _, attributes := range matching {
		req := request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		req.AddRawData(attributes)
		if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// parseFlow reads the attributes of a connection (linux/netfilter/nfnetlink_conntrack.h).
func parseFlow(attributes []byte) (f flow) {
	eachAttribute(attributes, func(kind uint16, value []byte) {
		switch kind {
		case nl.CTA_TUPLE_ORIG:
			f.proto, f.src, f.dst = parseTuple(value)
		case nl.CTA_TUPLE_REPLY:
			_, f.replySrc, f.replyDst = parseTuple(value)
		case nl.CTA_PROTOINFO:
			eachAttribute(value, func(kind uint16, value []byte) {
				if kind == nl.CTA_PROTOINFO_TCP {
					eachAttribute(value, func(kind uint16, value []byte) {
						if kind == nl.CTA_PROTOINFO_TCP_STATE && len(value) > 0 {
							f.tcpState = value[0]
						}
					})
				}
			})
		}
	})
	return f
}

// parseTuple reads from where to where packets of one direction go.
func parseTuple(attributes []byte) (proto uint8, src, dst netip.AddrPort) {
	var from, to netip.Addr
	var ports [2]uint16
	eachAttribute(attributes, func(kind uint16, value []byte) {
		switch kind {
		case nl.CTA_TUPLE_IP:
			eachAttribute(value, func(kind uint16, value []byte) {
				switch kind {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					from, _ = netip.AddrFromSlice(value)
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					to, _ = netip.AddrFromSlice(value)
				}
			})
		case nl.CTA_TUPLE_PROTO:
			eachAttribute(value, func(kind uint16, value []byte) {
				switch {
				case kind == nl.CTA_PROTO_NUM && len(value) > 0:
					proto = value[0]
				case kind == nl.CTA_PROTO_SRC_PORT && len(value) >= 2:
					ports[0] = binary.BigEndian.Uint16(value)
				case kind == nl.CTA_PROTO_DST_PORT && len(value) >= 2:
					ports[1] = binary.BigEndian.Uint16(value)
				}
			})
		}
	})
	return proto, netip.AddrPortFrom(from, ports[0]), netip.AddrPortFrom(to, ports[1])
}

// eachAttribute visits netlink attributes (linux/netlink.h, struct nlattr). What is cut off it leaves out.
func eachAttribute(attributes []byte, visit func(kind uint16, value []byte)) {
	for len(attributes) >= unix.SizeofNlAttr {
		size := int(nl.NativeEndian().Uint16(attributes))
		if size < unix.SizeofNlAttr || size > len(attributes) {
			return
		}
		visit(nl.NativeEndian().Uint16(attributes[2:])&nl.NLA_TYPE_MASK, attributes[unix.SizeofNlAttr:size])
		attributes = attributes[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(attributes)):]
	}
}
