package load

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"
)

// flowBatch is how many first packets are under way at once: less than a device's backlog holds (net.core.netdev_max_backlog).
const flowBatch = 64

// flows makes TCP connections that come no further than their first packet and its refusal (RFC 9293, section 3.5.2).
type flows struct {
	fd     int
	source netip.AddrPort // port: of the next packet
	target netip.AddrPort
}

func newFlows(target netip.AddrPort) (*flows, error) {
	family, to := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: target.Addr().As16()})
	if target.Addr().Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Addr: target.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return nil, fmt.Errorf("raw socket: %w", err)
	}
	f := &flows{fd: fd, target: target}
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
	if err == nil {
		err = unix.Connect(fd, to)
	}
	if err == nil {
		var name unix.Sockaddr
		if name, err = unix.Getsockname(fd); err == nil {
			f.source = netip.AddrPortFrom(addressOf(name), uint16(1024+rand.IntN(60000)))
		}
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("raw socket to %s: %w", target.Addr(), err)
	}
	return f, nil
}

func addressOf(name unix.Sockaddr) netip.Addr {
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(name.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(name.Addr)
	}
	return netip.Addr{}
}

func (f *flows) close() { _ = unix.Close(f.fd) }

// batch sends as many first packets, each of a connection of its own, and awaits that all of them are refused.
func (f *flows) batch() (int64, error) {
	for range flowBatch {
		if _, err := unix.Write(f.fd, syn(f.source, f.target)); err != nil {
			return 0, fmt.Errorf("send: %w", err)
		}
		f.source = netip.AddrPortFrom(f.source.Addr(), max(f.source.Port()+1, 1024))
	}
	var packet [256]byte
	for refused := 0; refused < flowBatch; {
		n, err := unix.Read(f.fd, packet[:])
		if err != nil {
			return 0, fmt.Errorf("%d of %d connections were not refused: %w", flowBatch-refused, flowBatch, err)
		}
		header := packet[:n]
		if f.target.Addr().Is4() {
			header = payload(header) // a raw socket of IPv6 leaves the IP header out (raw(7), RFC 3542, section 3)
		}
		if isReset(header, f.target.Port()) {
			refused++
		}
	}
	return flowBatch, nil
}

// Fields of a TCP header without options (RFC 9293, section 3.1).
const (
	tcpHeader   = 20
	flagSYN     = 0x02
	flagRST     = 0x04
	protocolTCP = 6
)

// syn is a TCP header that asks for a connection. Its checksum covers the addresses, the length and the protocol, alike for IPv4 and
// IPv6 (RFC 9293, section 3.1; RFC 8200, section 8.1).
func syn(source, target netip.AddrPort) []byte {
	header := make([]byte, tcpHeader)
	binary.BigEndian.PutUint16(header, source.Port())
	binary.BigEndian.PutUint16(header[2:], target.Port())
	binary.BigEndian.PutUint32(header[4:], rand.Uint32())
	header[12], header[13] = tcpHeader/4<<4, flagSYN
	binary.BigEndian.PutUint16(header[14:], 64240)
	sum := uint32(protocolTCP + tcpHeader)
	for _, words := range [][]byte{source.Addr().AsSlice(), target.Addr().AsSlice(), header} {
		for i := 0; i < len(words); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(words[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(header[16:], ^uint16(sum))
	return header
}

// payload is what follows the header of an IPv4 packet.
func payload(packet []byte) []byte {
	if len(packet) == 0 {
		return nil
	}
	return packet[min(int(packet[0]&0x0f)*4, len(packet)):]
}

// isReset reports whether a TCP header is that of a reset from a port.
func isReset(header []byte, port uint16) bool {
	return len(header) >= tcpHeader && binary.BigEndian.Uint16(header) == port && header[13]&flagRST != 0
}
