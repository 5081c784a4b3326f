package serve

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// listenUDP opens a socket that tells of each datagram to which address it came: what comes to a VIP by direct forwarding is
// to be answered from the VIP (RFC 3542, section 6). On a kernel without IPv6 it does not.
func listenUDP(address string) (*net.UDPConn, error) {
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, err
	}
	conn := packets.(*net.UDPConn)
	raw, err := conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1) })
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func (s *server) udp(conn *net.UDPConn) error {
	buffer, control := make([]byte, 64<<10), make([]byte, 256)
	for {
		_, length, _, peer, err := conn.ReadMsgUDPAddrPort(buffer, control)
		if err != nil {
			return fmt.Errorf("read a datagram: %w", err)
		}
		// A peer that cannot be answered is no reason to stop answering others.
		_, _, _ = conn.WriteMsgUDPAddrPort([]byte(s.line(peer.String())), from(control[:length]), peer)
	}
}

// from is a control message that has a datagram sent from the address to which another came, by whatever interface.
func from(control []byte) []byte {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo {
			return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: [16]byte(m.Data[:16])})
		}
	}
	return nil
}
