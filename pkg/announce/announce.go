// Package announce tells the neighbours on a link which interface answers for a VIP: by gratuitous ARP for IPv4 and by
// unsolicited neighbour advertisements for IPv6.
//
// It owns the packet sockets it sends through. It never touches an address, a neighbour table or a sysctl, and receives
// nothing: the kernel answers requests for an address that is bound.
//
// It does not promise that anybody hears it; that is why it repeats itself. It does not decide who may announce: it asks
// before every single packet (Config.Allowed), because the right to announce can lapse at any moment.
package announce

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// The schedule of a VIP's announcements. The first goes out at once. Linux neighbours ignore an update for a second after
// the last one (neigh/default/locktime, 1 s), so that one that has just learnt the old holder must hear of the new one
// later: the next ones follow at 1.1 s (as in MetalLB, see its issue 172), until five were sent. After that a slow refresh
// mends what was missed, such as by a switch that restarted.
const (
	burst   = 5
	step    = 1100 * time.Millisecond
	refresh = 30 * time.Second
)

// Config of an Announcer.
type Config struct {
	// Allowed is asked immediately before every packet whether this node may announce the address now. One that is not
	// allowed is not sent, and asked for again until it is. It must not block or call the Announcer, and may be called
	// from any goroutine.
	Allowed func(netip.Addr) bool
	// OnError is told when announcing a binding begins to fail, and with a nil error when it works again. It must not
	// call the Announcer. Optional.
	OnError func(model.Binding, error)

	link link // nil: the kernel's
}

// Announcer announces a set of VIPs. One goroutine, that of Run, sends for all of them.
type Announcer struct {
	allowed func(netip.Addr) bool
	onError func(model.Binding, error)
	wake    chan struct{} // buffered: a Set that Run has not seen yet

	mu       sync.Mutex // held while a packet is sent, so that after Set none is under way
	link     link
	schedule schedule
	failing  map[model.Binding]bool
}

// New returns an Announcer that announces nothing yet. It opens sockets only when Run sends.
func New(cfg Config) *Announcer {
	a := &Announcer{
		allowed: cfg.Allowed, onError: cfg.OnError, link: cfg.link,
		wake: make(chan struct{}, 1), schedule: newSchedule(), failing: map[model.Binding]bool{},
	}
	if a.link == nil {
		a.link = newPackets()
	}
	if a.onError == nil {
		a.onError = func(model.Binding, error) {}
	}
	return a
}

// Set makes the bindings the ones that are announced: new ones at once, the others no more. When it returns, no packet
// for an address that is not among them will be sent.
func (a *Announcer) Set(bindings []model.Binding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	removed, added := a.schedule.set(bindings, time.Now())
	for _, b := range removed {
		delete(a.failing, b)
	}
	if added {
		select {
		case a.wake <- struct{}{}:
		default:
		}
	}
}

// Run sends until the context ends, then closes the sockets. It must run in the network namespace of the interfaces, on
// one goroutine.
func (a *Announcer) Run(ctx context.Context) {
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.link.close()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		if next, any := a.sendDue(ctx); any {
			timer.Reset(time.Until(next))
		}
	}
}

// sendDue sends what is due, and returns when the next is; false if nothing is scheduled. The sockets are checked against
// the interfaces once for the whole batch.
func (a *Announcer) sendDue(ctx context.Context) (next time.Time, any bool) {
	checked := map[string]error{}
	for ctx.Err() == nil {
		if next, more := a.sendOne(checked); !more {
			return next, !next.IsZero()
		}
	}
	return time.Time{}, false
}

// sendOne announces the first binding that is due; false with the time of the next, or 0, if none is.
func (a *Announcer) sendOne(checked map[string]error) (next time.Time, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	b, ok := a.schedule.due(now)
	if !ok {
		return a.schedule.next(), false
	}
	err, known := checked[b.Interface]
	if !known {
		var changed bool
		changed, err = a.link.check(b.Interface)
		checked[b.Interface] = err
		if changed {
			a.schedule.restart(b.Interface, now)
			// It is now due among those of its interface.
			return time.Time{}, true
		}
	}
	sent := false
	if err == nil {
		sent, err = a.link.send(b, a.allowed)
	}
	if sent {
		a.schedule.done(b, now)
	} else {
		a.schedule.again(b, now)
	}
	a.report(b, err)
	return time.Time{}, true
}

// report tells of an error once, when it begins and when it ends.
func (a *Announcer) report(b model.Binding, err error) {
	if failed := err != nil; failed != a.failing[b] {
		if failed {
			a.failing[b] = true
		} else {
			delete(a.failing, b)
		}
		a.onError(b, err)
	}
}
