package netif

import (
	"context"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// settle is how long Watch gathers changes before it tells of them: a link that comes up sends several in a row.
	settle = 20 * time.Millisecond
	// resubscribeAfter is how long Watch waits after it lost its subscription or got none. Meanwhile it tells at this
	// pace, so that a caller that lists on every call misses nothing for longer.
	resubscribeAfter = time.Second
)

// Watch calls notify after links or addresses changed, and once at the start and after every loss of the subscription,
// when changes may have been missed; the caller then lists again. Several changes in a row make one call. The refreshing
// of VIPs is no change; their disappearing is. Watch returns when the context ends. It must run in the namespace of its
// Kernel.
func (k *Kernel) Watch(ctx context.Context, notify func()) {
	for ctx.Err() == nil {
		watchOnce(ctx, notify)
		select {
		case <-ctx.Done():
		case <-time.After(resubscribeAfter):
		}
	}
}

// watchOnce tells of changes until a subscription ends, and at its start.
func watchOnce(ctx context.Context, notify func()) {
	defer func() {
		if ctx.Err() == nil {
			notify()
		}
	}()
	done := make(chan struct{})
	links, addresses := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate)
	if netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{}) != nil {
		return
	}
	// The library's goroutines send what they have before they notice that they are to end.
	defer drain(links)
	if netlink.AddrSubscribeWithOptions(addresses, done, netlink.AddrSubscribeOptions{}) != nil {
		close(done)
		return
	}
	defer drain(addresses)
	defer close(done)
	notify()
	tell(ctx, links, addresses, notify)
}

func drain[T any](updates <-chan T) {
	for range updates {
	}
}

// tell calls notify for the changes that it receives, until a channel closes or the context ends.
func tell(ctx context.Context, links <-chan netlink.LinkUpdate, addresses <-chan netlink.AddrUpdate, notify func()) {
	var gathered <-chan time.Time
	for {
		relevant := false
		select {
		case <-ctx.Done():
			return
		case <-gathered:
			gathered = nil
			notify()
		case update, ok := <-links:
			if !ok {
				return
			}
			relevant = update.Header.Type == unix.RTM_NEWLINK || update.Header.Type == unix.RTM_DELLINK
		case update, ok := <-addresses:
			if !ok {
				return
			}
			relevant = !update.NewAddr || !single(update.LinkAddress)
		}
		if relevant && gathered == nil {
			gathered = time.After(settle)
		}
	}
}

// single reports whether an address has a /32 or /128 prefix, as VIPs have.
func single(n net.IPNet) bool {
	ones, bits := n.Mask.Size()
	return ones == bits
}
