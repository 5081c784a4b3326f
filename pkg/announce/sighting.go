package announce

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Sighting is another host that uses an address.
type Sighting struct {
	Addr      netip.Addr
	Interface string // of this host, on which it was heard
	MAC       string // of the other host, as 02:00:00:00:00:01
	// Asking says that it does not use the address yet, but asks whether it may.
	Asking bool
	At     time.Time
}

// hardware is an Ethernet address that compares.
type hardware [6]byte

func (h hardware) String() string { return net.HardwareAddr(h[:]).String() }

// heard is a sighting as far as it tells one from another.
type heard struct {
	binding model.Binding
	mac     hardware
	asking  bool
}

func (h heard) sighting(at time.Time) Sighting {
	return Sighting{Addr: h.binding.Addr, Interface: h.binding.Interface, MAC: h.mac.String(), Asking: h.asking, At: at}
}

// pendingMost bounds what is kept of what was heard until the goroutine of Run looks at it: a host that makes up addresses
// of its own must not cost memory.
const pendingMost = 1 << 16

// ears keep what was heard of the addresses that are watched. The goroutines that listen share it.
type ears struct {
	wakeUp func()

	mu      sync.RWMutex
	watched map[model.Binding]int // by how many
	pending map[heard]time.Time
}

func newEars(wakeUp func()) *ears {
	return &ears{wakeUp: wakeUp, watched: map[model.Binding]int{}, pending: map[heard]time.Time{}}
}

func (e *ears) watch(bindings []model.Binding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range bindings {
		e.watched[b]++
	}
}

func (e *ears) ignore(bindings []model.Binding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range bindings {
		if e.watched[b]--; e.watched[b] <= 0 {
			delete(e.watched, b)
		}
	}
}

// hear takes in a frame of an interface. Most frames of a busy LAN are about addresses that nobody watches: they cost one
// look into a map.
func (e *ears) hear(name string, frame []byte) {
	addr, ok := subject(frame)
	if !ok {
		return
	}
	b := model.Binding{Addr: addr, Interface: name}
	e.mu.RLock()
	watched := e.watched[b] > 0
	e.mu.RUnlock()
	if !watched {
		return
	}
	mac, asking := user(frame)
	e.mu.Lock()
	if len(e.pending) < pendingMost {
		e.pending[heard{binding: b, mac: mac, asking: asking}] = time.Now()
	}
	e.mu.Unlock()
	e.wakeUp()
}

// take returns what was heard since the last call.
func (e *ears) take() map[heard]time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.pending) == 0 {
		return nil
	}
	pending := e.pending
	e.pending = map[heard]time.Time{}
	return pending
}

// subject is the address that a frame, which passed a filter, is about: that of its sender or, if that has none yet, the one
// it asks for.
func subject(frame []byte) (netip.Addr, bool) {
	switch {
	case isARP(frame) && len(frame) >= arpLen:
		addr := netip.AddrFrom4([4]byte(frame[atARPSender:]))
		if addr.IsUnspecified() && binary.BigEndian.Uint16(frame[atARPOp:]) == uint16(arp.OperationRequest) {
			addr = netip.AddrFrom4([4]byte(frame[atARPTarget:]))
		}
		return addr, true
	case !isARP(frame) && len(frame) >= ndpLen:
		return netip.AddrFrom16([16]byte(frame[atTarget:])), true
	default:
		return netip.Addr{}, false
	}
}

func isARP(frame []byte) bool {
	return len(frame) >= headerLen && binary.BigEndian.Uint16(frame[2*len(broadcast):]) == unix.ETH_P_ARP
}

// user is who uses the address that a frame is about, by the hardware address that neighbours take, and whether it is only
// asking for it.
func user(frame []byte) (mac hardware, asking bool) {
	if isARP(frame) {
		return hardware(frame[atARPSenderHW:]), bytes.Equal(frame[atARPSender:atARPSender+4], make([]byte, 4))
	}
	mac = hardware(frame[len(broadcast):])
	if frame[atICMP] == solicitationType {
		return mac, true
	}
	message, err := ndp.ParseMessage(frame[atICMP:])
	na, ok := message.(*ndp.NeighborAdvertisement)
	if err != nil || !ok {
		return mac, false
	}
	for _, option := range na.Options {
		if lla, ok := option.(*ndp.LinkLayerAddress); ok && lla.Direction == ndp.Target && len(lla.Addr) == len(mac) {
			mac = hardware(lla.Addr)
		}
	}
	return mac, false
}

// seenEvery is how often Config.Seen is told of one host and address.
const seenEvery = time.Second

// attend tells of what was heard, and ends the inquests whose time is over.
func (a *Announcer) attend() {
	now := time.Now()
	maps.DeleteFunc(a.told, func(_ heard, at time.Time) bool { return now.Sub(at) >= seenEvery })
	pending := a.ears.take()
	a.weigh(pending)
	for h, at := range pending {
		if _, told := a.told[h]; !told {
			a.told[h] = now
			a.seen(h.sighting(at))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conclude(now)
}

// weigh takes this host itself out of what was heard, gives every inquest what concerns it, and answers who asks for what is
// announced.
func (a *Announcer) weigh(pending map[heard]time.Time) {
	if len(pending) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(pending, func(h heard, _ time.Time) bool { return a.link.own(h.mac) })
	for h, at := range pending {
		for _, i := range a.inquests {
			i.hear(h, at)
		}
		if h.asking && h.binding.Addr.Is4() && a.schedule.entries[h.binding] != nil {
			// The kernel answers ARP probes for addresses of its own, but not for those that it answers for by proxy, as in
			// isolated placement (net/ipv4/arp.c, arp_process). For IPv6 it answers both (net/ipv6/ndisc.c). A second
			// answer does no harm. Should it not get out, the prober sends more probes than one.
			_ = a.link.answer(h.binding, h.mac, a.allowed)
		}
	}
}
