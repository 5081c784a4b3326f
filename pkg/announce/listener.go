package announce

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// listener is a socket that one goroutine reads.
type listener struct {
	conn   *packet.Conn
	groups map[netip.Addr]bool // multicast groups that the interface was told of
	failed atomic.Bool
}

// hear makes sure that what concerns the address of a binding is heard on its interface.
func (p *packets) hear(s *socket, b model.Binding) (err error) {
	if b.Addr.Is4() {
		s.arp, err = p.listener(s, s.arp, b.Interface, unix.ETH_P_ARP, arpFilter)
	} else if s.ndp, err = p.listener(s, s.ndp, b.Interface, unix.ETH_P_IPV6, ndpFilter); err == nil {
		err = s.ndp.join(b.Addr)
	}
	if err != nil {
		return fmt.Errorf("listen on %s for who else has %s: %w", b.Interface, b.Addr, err)
	}
	return nil
}

// listener returns the socket if it works, else another one. A socket of one protocol is shown nothing that this host sends,
// and costs other traffic nothing.
func (p *packets) listener(s *socket, have *listener, name string, protocol int, filter []bpf.Instruction) (*listener, error) {
	if have != nil && !have.failed.Load() {
		return have, nil
	}
	have.close()
	program, err := bpf.Assemble(filter)
	if err != nil {
		return nil, err
	}
	ifi := &net.Interface{Name: name, Index: s.index, HardwareAddr: s.mac}
	conn, err := packet.Listen(ifi, packet.Raw, protocol, &packet.Config{Filter: program})
	if err != nil {
		return nil, err
	}
	l := &listener{conn: conn, groups: map[netip.Addr]bool{}}
	p.readers.Go(func() { l.read(name, p.ears) })
	return l, nil
}

// join has the network card take what goes to an address's solicited-node group (RFC 4291, section 2.7.1), where others ask
// for it. The kernel is in the group once the address is bound. Addresses that end in the same 24 bits share one.
func (l *listener) join(addr netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil || l.groups[group] {
		return err
	}
	if err := l.conn.JoinGroup(groupMAC(group)); err != nil {
		return err
	}
	l.groups[group] = true
	return nil
}

// read listens until the socket closes. An interface that goes down is one error, after which the socket works on.
func (l *listener) read(name string, ears *ears) {
	frame := make([]byte, ndpMost)
	for {
		n, _, err := l.conn.ReadFrom(frame)
		if err == nil {
			ears.hear(name, frame[:n])
		} else if !errors.Is(err, unix.ENETDOWN) {
			l.failed.Store(true) // closed, or the interface is gone: the next announcement opens another
			return
		}
	}
}

// close closes the socket. Nothing is buffered: an error would tell nothing.
func (l *listener) close() {
	if l != nil {
		_ = l.conn.Close()
	}
}

// macsEvery is how long what was read of this host's hardware addresses is believed before a stranger's is looked for anew.
const macsEvery = 200 * time.Millisecond

func (p *packets) own(mac hardware) bool {
	if p.macs[mac] || time.Since(p.macsAt) < macsEvery {
		return p.macs[mac]
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return false
	}
	p.macs, p.macsAt = map[hardware]bool{}, time.Now()
	for _, ifi := range interfaces {
		if len(ifi.HardwareAddr) == len(mac) {
			p.macs[hardware(ifi.HardwareAddr)] = true
		}
	}
	return p.macs[mac]
}
