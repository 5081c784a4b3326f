package isolated

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// beat keeps IPv6 VIPs answering. Its datagrams are for a rule of nft.Outside, which notes them and drops them: the kernel then
// says EPERM, and that is how it is known that the rule was there.
type beat struct {
	conn  *net.UDPConn
	until time.Time // when what was sent last lapses
}

// send keeps IPv6 VIPs answering for a lifetime, in whole seconds, and returns an error if they do not.
func (b *beat) send(lifetime time.Duration) error {
	seconds := wholeSeconds(lifetime)
	if b.conn == nil {
		conn, err := net.ListenUDP("udp6", nil)
		if err != nil {
			return fmt.Errorf("open a socket to keep IPv6 VIPs answering: %w", err)
		}
		b.conn = conn
	}
	until := time.Now().Add(time.Duration(seconds) * time.Second)
	_, err := b.conn.WriteToUDPAddrPort([]byte{0}, netip.AddrPortFrom(Beat, uint16(seconds)))
	if errors.Is(err, unix.EPERM) {
		b.until = until
		return nil
	}
	if err == nil {
		err = errors.New("no rule of nftables took the datagram")
	}
	return fmt.Errorf("keep IPv6 VIPs answering: %w", err)
}

// lapsed reports whether IPv6 VIPs are answered no more, or may be only by what an earlier speaker sent.
func (b *beat) lapsed() bool { return !time.Now().Before(b.until) }

func (b *beat) close() {
	if b.conn != nil {
		_ = b.conn.Close() // nothing is buffered
	}
}

// wholeSeconds rounds up, to 1 at the least and BeatMax at the most.
func wholeSeconds(d time.Duration) int {
	return min(max(1, int((d+time.Second-1)/time.Second)), BeatMax)
}
