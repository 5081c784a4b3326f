package health

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

const (
	// silence after which a datagram counts as taken if no reply is asked for: the ICMP error of a host without the port
	// comes in a round trip, of which this is many in any cluster.
	silence = 500 * time.Millisecond
	// maxReply is how much of a reply is looked at: more than fits into one Ethernet frame.
	maxReply = 4 << 10
)

// exchange sends the payload and waits for what is to come back: the reply, or else anything but an ICMP error.
func exchange(ctx context.Context, target model.Target) error {
	conn, err := new(net.Dialer).DialUDP(ctx, "udp", netip.AddrPort{}, target.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if target.Check.Reply == "" {
		if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // long past: ends the Read
	defer stop()
	if _, err := conn.Write([]byte(target.Check.Payload)); err != nil {
		return err
	}
	var buffer [maxReply]byte
	n, err := conn.Read(buffer[:])
	switch {
	case target.Check.Reply == "" && errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil:
		return nil
	case err != nil:
		return err
	case !bytes.Contains(buffer[:n], []byte(target.Check.Reply)):
		return failure("the reply lacks what is to be in it")
	}
	return nil
}
