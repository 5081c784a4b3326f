package announce

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
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
	// probe asks for the address of a binding, and listens for it from then on. It follows a check.
	probe(b model.Binding) error
	// answer tells a host that asked for the address of a binding that it is taken, if that may be said.
	answer(b model.Binding, to hardware, allowed func(netip.Addr) bool) error
	// own reports whether a hardware address is this host's.
	own(mac hardware) bool
	close()
}

// sendTimeout bounds how long a packet may wait for room in the socket's buffer, while Set waits for it.
const sendTimeout = 100 * time.Millisecond

// packets is the kernel's link: packet sockets for each interface, one to send and one to listen for each family. A packet
// socket, rather than one of ARP or ICMPv6, needs no address on the interface and lets a frame be exactly what it should be.
type packets struct {
	ears    *ears
	sockets map[string]*socket
	readers sync.WaitGroup
	macs    map[hardware]bool // of this host
	macsAt  time.Time         // when they were read
}

type socket struct {
	conn   *packet.Conn // nil after a failure
	index  int
	mac    net.HardwareAddr
	router bool
	arp    *listener // nil until needed
	ndp    *listener // nil until needed
}

func newPackets(ears *ears) *packets { return &packets{ears: ears, sockets: map[string]*socket{}} }

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
	if err := conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return false, errors.Join(fmt.Errorf("announce on %s: bound how long its socket waits: %w", name, err), conn.Close())
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
	s, err := p.socket(b)
	if err != nil {
		return false, err
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
			return false, fmt.Errorf("announce %s on %s: %w", b.Addr, b.Interface, err)
		}
	}
	return true, p.hear(s, b)
}

func (p *packets) probe(b model.Binding) error {
	s, err := p.socket(b)
	if err != nil {
		return err
	}
	if err := p.hear(s, b); err != nil {
		return err
	}
	frame, err := question(b.Addr, s.mac)
	if err != nil {
		return err
	}
	if err := s.write(frame); err != nil {
		return fmt.Errorf("ask on %s for %s: %w", b.Interface, b.Addr, err)
	}
	return nil
}

func (p *packets) answer(b model.Binding, to hardware, allowed func(netip.Addr) bool) error {
	s, err := p.socket(b)
	if err != nil || !allowed(b.Addr) {
		return err
	}
	frame, err := answer(b.Addr, s.mac, to[:])
	if err != nil {
		return err
	}
	return s.write(frame)
}

func (p *packets) socket(b model.Binding) (*socket, error) {
	s := p.sockets[b.Interface]
	if s == nil || s.conn == nil {
		return nil, fmt.Errorf("announce %s on %s: its socket failed", b.Addr, b.Interface)
	}
	return s, nil
}

// write sends a frame. After an error (ENETDOWN, ENXIO) the next check opens the socket anew. Time that is over is no such error: it
// may be that of frames before, or over before the kernel was asked, where this process lacked a processor. It begins anew then, twice at
// most. It does not for each frame: to set it costs more than to send.
func (s *socket) write(frame []byte) (err error) {
	to := &packet.Addr{HardwareAddr: net.HardwareAddr(frame[:len(broadcast)])}
	_, err = s.conn.WriteTo(frame, to)
	for tries := 0; tries < 2 && errors.Is(err, os.ErrDeadlineExceeded); tries++ {
		if err = s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err == nil {
			_, err = s.conn.WriteTo(frame, to)
		}
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.close()
	}
	return err
}

// close closes the sockets. Nothing is buffered: an error would tell nothing.
func (s *socket) close() {
	if s.conn != nil {
		_ = s.conn.Close()
	}
	s.arp.close()
	s.ndp.close()
	s.conn, s.arp, s.ndp = nil, nil, nil
}

func (p *packets) close() {
	for _, s := range p.sockets {
		s.close()
	}
	p.readers.Wait()
}

// forwards reports whether the node is an IPv6 router on the interface, which an advertisement has to say (RFC 4861,
// section 4.4): a host that had it as its router would drop it otherwise.
func forwards(name string) bool {
	value, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + name + "/forwarding")
	return err == nil && len(value) > 0 && value[0] != '0'
}
