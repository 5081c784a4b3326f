package netif

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// placed is a binding and the index of its interface.
type placed struct {
	model.Binding
	index int
}

// writesAtOnce is how many addresses go to the kernel in one datagram: 18 kB, well within a socket's send buffer.
const writesAtOnce = 256

// newWrites opens a socket for write.
func newWrites() (*nl.NetlinkSocket, error) {
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE) // to no group
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to write addresses: %w", err)
	}
	timeout := unix.NsecToTimeval(callTimeout.Nanoseconds())
	if err := socket.SetReceiveTimeout(&timeout); err != nil {
		socket.Close()
		return nil, fmt.Errorf("set the timeout of a netlink socket: %w", err)
	}
	return socket, nil
}

// order is what the kernel is to do with each of some addresses.
type order struct {
	verb    string // with its preposition, as in "bind %s on %s"
	request func(placed) *nl.NetlinkRequest
	ignored []error // of the kernel's: no failures
}

// putting puts addresses on their interfaces for a lifetime, or sets that of those that are there.
func putting(lifetime time.Duration) order {
	return order{verb: "bind %s on %s", request: func(a placed) *nl.NetlinkRequest { return addition(a, lifetime) }}
}

// taking takes them off.
var taking = order{verb: "unbind %s from %s", request: removal, ignored: []error{unix.EADDRNOTAVAIL, unix.ENODEV}}

// forgetting makes the kernel forget which neighbours have them.
var forgetting = order{verb: "forget the neighbour %s on %s", request: oblivion, ignored: []error{unix.ENOENT}}

// write carries out an order, and returns what failed.
func (k *Kernel) write(addresses []placed, order order) map[netip.Addr]error {
	k.writing.Lock()
	defer k.writing.Unlock()
	failed := map[netip.Addr]error{}
	for chunk := range slices.Chunk(addresses, writesAtOnce) {
		if err := k.writeChunk(chunk, order, failed); err != nil {
			for _, a := range chunk {
				failed[a.Addr] = order.failure(a.Binding, err)
			}
		}
	}
	return failed
}

// writeChunk sends a message for each address in one datagram, which the kernel works off in order. It answers those that
// failed, and the last one, of which an acknowledgement is asked. An error says that it is not known what came of them.
func (k *Kernel) writeChunk(addresses []placed, order order, failed map[netip.Addr]error) error {
	var datagram []byte
	asked := map[uint32]placed{}
	var last uint32
	for i, a := range addresses {
		request := order.request(a)
		if i == len(addresses)-1 {
			request.Flags |= unix.NLM_F_ACK
			last = request.Seq
		}
		asked[request.Seq] = a
		datagram = append(datagram, request.Serialize()...)
	}
	if err := unix.Sendto(k.writes.GetFd(), datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send %d addresses to the kernel: %w", len(addresses), err)
	}
	for {
		answers, _, err := k.writes.Receive()
		if err != nil {
			return fmt.Errorf("wait for the kernel to take %d addresses: %w", len(addresses), err)
		}
		for _, answer := range answers {
			a, ours := asked[answer.Header.Seq] // else it is late, for one that was given up
			if !ours || answer.Header.Type != unix.NLMSG_ERROR {
				continue
			}
			code := syscall.Errno(-int32(nl.NativeEndian().Uint32(answer.Data)))
			if code != 0 && !slices.Contains(order.ignored, error(code)) {
				failed[a.Addr] = order.failure(a.Binding, code)
			}
			if answer.Header.Seq == last {
				return nil
			}
		}
	}
}

// addition is the message of rtnetlink(7) that adds an address or replaces it.
func addition(a placed, lifetime time.Duration) *nl.NetlinkRequest {
	// preferred_lft 0: see Bind.
	life := nl.IfaCacheInfo{IfaCacheinfo: unix.IfaCacheinfo{Valid: uint32(seconds(lifetime))}}
	request := nl.NewNetlinkRequest(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
	for _, part := range []nl.NetlinkRequestData{
		header(a),
		nl.NewRtAttr(unix.IFA_LOCAL, a.Addr.AsSlice()),
		nl.NewRtAttr(unix.IFA_ADDRESS, a.Addr.AsSlice()),
		nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD|unix.IFA_F_NOPREFIXROUTE)),
		nl.NewRtAttr(unix.IFA_CACHEINFO, life.Serialize()),
	} {
		request.AddData(part)
	}
	return request
}

// removal is the one that removes it.
func removal(a placed) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(unix.RTM_DELADDR, 0)
	request.AddData(header(a))
	request.AddData(nl.NewRtAttr(unix.IFA_LOCAL, a.Addr.AsSlice()))
	return request
}

// oblivion is the one that removes a neighbour of that address.
func oblivion(a placed) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(unix.RTM_DELNEIGH, 0)
	request.AddData(&netlink.Ndmsg{Family: uint8(family(a.Addr)), Index: uint32(a.index)})
	request.AddData(nl.NewRtAttr(unix.NDA_DST, a.Addr.AsSlice()))
	return request
}

func family(addr netip.Addr) int {
	if addr.Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func header(a placed) *nl.IfAddrmsg {
	message := nl.NewIfAddrmsg(family(a.Addr))
	message.Prefixlen, message.Index = uint8(a.Addr.BitLen()), uint32(a.index)
	return message
}

// seconds rounds up, to 1 at the least.
func seconds(d time.Duration) int {
	return max(1, int((d+time.Second-1)/time.Second))
}

func (o order) failure(b model.Binding, err error) error {
	err = fmt.Errorf(o.verb+": %w", b.Addr, b.Interface, err)
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: CAP_NET_ADMIN is missing (add NET_ADMIN to the container's capabilities)", err)
	case b.Addr.Is6() && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EOPNOTSUPP)):
		return fmt.Errorf("%w: IPv6 is disabled there: sysctl net.ipv6.conf.%s.disable_ipv6=0", err, b.Interface)
	default:
		return err
	}
}
