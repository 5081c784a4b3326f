package announce

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/packet"

	"github.com/fairlead/fairlead/pkg/model"
)

// link is where announcements go.
type link interface {
	// check makes sure that a socket fits the interface as it is now. It reports whether it had to open another one than
	// before: neighbours may know a MAC address that is no more, or have missed what was sent.
	check(name string) (changed bool, err error)
	// send announces a binding, asking before every packet whether it may be sent; false if it was not allowed to. It
	// follows a check.
	send(b model.Binding, allowed func(netip.Addr) bool) (sent bool, err error)
	close()
}

// sendTimeout bounds how long a packet may wait for room in the socket's buffer, while Set waits for it.
const sendTimeout = 100 * time.Millisecond

// packets is the kernel's link: one packet socket an interface. A packet socket, rather than one of ARP or ICMPv6, needs
// no address on the interface and lets a frame be exactly what it should be.
type packets struct {
	sockets map[string]*socket
}

type socket struct {
	conn   *packet.Conn // nil after a failure
	index  int
	mac    net.HardwareAddr
	router bool
}

func newPackets() *packets { return &packets{sockets: map[string]*socket{}} }

func (p *packets) check(name string) (changed bool, err error) {
	ifi, err := net.InterfaceByName(name)
	if err == nil {
		err = usable(ifi)
	}
	s, existed := p.sockets[name]
	if err != nil {
		if existed {
			s.close()
		}
		return false, fmt.Errorf("announce on %s: %w", name, err)
	}
	if existed && s.conn != nil && s.index == ifi.Index && bytes.Equal(s.mac, ifi.HardwareAddr) {
		s.router = forwards(name)
		return false, nil
	}
	if existed {
		s.close()
	}
	// Protocol 0: the socket receives nothing.
	conn, err := packet.Listen(ifi, packet.Raw, 0, nil)
	if err != nil {
		return false, fmt.Errorf("announce on %s: open a packet socket (it takes CAP_NET_RAW): %w", name, err)
	}
	p.sockets[name] = &socket{conn: conn, index: ifi.Index, mac: ifi.HardwareAddr, router: forwards(name)}
	return existed, nil
}

func usable(ifi *net.Interface) error {
	switch {
	case len(ifi.HardwareAddr) != len(broadcast):
		return fmt.Errorf("it has no Ethernet address, and VIPs can be announced on Ethernet only")
	case ifi.Flags&net.FlagUp == 0 || ifi.Flags&net.FlagRunning == 0:
		return fmt.Errorf("it is down")
	default:
		return nil
	}
}

func (p *packets) send(b model.Binding, allowed func(netip.Addr) bool) (sent bool, err error) {
	s := p.sockets[b.Interface]
	if s == nil || s.conn == nil {
		return false, fmt.Errorf("announce %s on %s: its socket failed", b.Addr, b.Interface)
	}
	all, err := frames(b.Addr, s.mac, s.router)
	if err != nil {
		return false, err
	}
	for _, frame := range all {
		if !allowed(b.Addr) {
			return false, nil
		}
		if err := s.write(frame); err != nil {
			s.close() // ENETDOWN, ENXIO: the next check opens it anew
			return false, fmt.Errorf("announce %s on %s: %w", b.Addr, b.Interface, err)
		}
	}
	return true, nil
}

func (s *socket) write(frame []byte) error {
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := s.conn.WriteTo(frame, &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:len(broadcast)])})
	return err
}

// close closes the socket. Nothing was read or is buffered: an error would tell nothing.
func (s *socket) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

func (p *packets) close() {
	for _, s := range p.sockets {
		s.close()
	}
}

// forwards reports whether the node is an IPv6 router on the interface, which an advertisement has to say (RFC 4861,
// section 4.4): a host that had it as its router would drop it otherwise.
func forwards(name string) bool {
	value, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/forwarding")
	return err == nil && len(value) > 0 && value[0] != '0'
}
