// Package announce tells the neighbours on a link which interface answers for a VIP: by gratuitous ARP for IPv4 and by
// unsolicited neighbour advertisements for IPv6. It finds out who else has the address: by asking before it is bound
// (Probe), by asking again with every refresh, and by listening all the while (Config.Seen).
//
// It owns the packet sockets it sends and listens through. It never touches an address, a neighbour table or a sysctl, and
// leaves to the kernel what that does: to answer requests for an address that is bound.
//
// It does not promise that anybody hears it; that is why it repeats itself. It does not decide who may announce: it asks
// before every single packet (Config.Allowed), because the right to announce can lapse at any moment. Nor does it judge what
// it sees: whether another host is a foreign one is for the caller to know.
package announce

import (
	"context"
	"errors"
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
	// Seen is told of other hosts that use an address which is announced or probed here, or are about to: at most once a
	// second of one host and address. It must not block, and is called from the goroutine of Run. Optional.
	Seen func(Sighting)

	link link // nil: the kernel's
}

// Announcer announces a set of VIPs. One goroutine, that of Run, sends for all of them; one for each socket listens.
type Announcer struct {
	allowed func(netip.Addr) bool
	onError func(model.Binding, error)
	seen    func(Sighting)
	ears    *ears
	told    map[heard]time.Time // when Seen was told, of the goroutine of Run
	wake    chan struct{}       // buffered: something that Run has not seen yet

	mu       sync.Mutex // held while a packet is sent, so that after Set none is under way
	link     link
	schedule schedule
	failing  map[model.Binding]bool
	inquests []*inquest
	gone     []model.Binding // to be asked for once
}

// New returns an Announcer that announces nothing yet. It opens sockets only when Run sends.
func New(cfg Config) *Announcer {
	a := &Announcer{
		allowed: cfg.Allowed, onError: cfg.OnError, seen: cfg.Seen, link: cfg.link, told: map[heard]time.Time{},
		wake: make(chan struct{}, 1), schedule: newSchedule(), failing: map[model.Binding]bool{},
	}
	a.ears = newEars(a.wakeUp)
	if a.link == nil {
		a.link = newPackets(a.ears)
	}
	if a.onError == nil {
		a.onError = func(model.Binding, error) {}
	}
	if a.seen == nil {
		a.seen = func(Sighting) {}
	}
	return a
}

// Set makes the bindings the ones that are announced: new ones at once, the others no more. When it returns, no packet
// for an address that is not among them will be sent.
func (a *Announcer) Set(bindings []model.Binding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	removed, added := a.schedule.set(bindings)
	for _, b := range removed {
		delete(a.failing, b)
	}
	a.ears.ignore(removed)
	a.ears.watch(added)
	if len(added) > 0 {
		a.wakeUp()
	}
}

// defendInterval is the least time between two defences of an address (RFC 5227, section 1.1, DEFEND_INTERVAL).
const defendInterval = 10 * time.Second

// Defend announces a binding once, at once, because another host claims its address. It does nothing if it did so less than
// 10 s ago, or if the binding is not announced: two hosts that both defend one address must not fill the LAN with it. That
// goes on for as long as the binding is announced, which RFC 5227, section 2.4 (c), allows hosts that others know by their
// address. The schedule goes on beside it.
func (a *Announcer) Defend(b model.Binding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.schedule.defend(b, time.Now()) {
		a.wakeUp()
	}
}

// Repeat begins the announcements of a binding anew, because another host of the same owner was heard to have its address still, and
// so all neighbours may have heard it, or to have let it go. It does nothing if it did so a moment ago, since the next announcement
// is near then, or if the binding is not announced.
func (a *Announcer) Repeat(b model.Binding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.schedule.repeat(b, time.Now()) {
		a.wakeUp()
	}
}

// Ask asks once for addresses that this host had until now. Neighbours whom it answered to the last may not ask again for half a
// minute; who has the addresses now hears by this that it is gone, and tells them: see Repeat.
func (a *Announcer) Ask(gone []model.Binding) {
	if len(gone) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = append(a.gone, gone...)
	a.wakeUp()
}

func (a *Announcer) wakeUp() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Run sends and listens until the context ends, then closes the sockets. It must run in the network namespace of the
// interfaces, on one goroutine.
func (a *Announcer) Run(ctx context.Context) {
	defer a.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		case <-timer.C:
		}
		a.attend()
		if next, any := a.sendDue(ctx); any {
			timer.Reset(time.Until(next))
		}
	}
}

func (a *Announcer) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.link.close()
	for _, i := range a.inquests {
		i.end(errEnded)
	}
	a.inquests = nil
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

// sendOne announces the first binding that is due, or asks for one that is to be asked for; false with the time of the next,
// or 0, if none is.
func (a *Announcer) sendOne(checked map[string]error) (next time.Time, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	b, ok := a.schedule.due(now)
	if !ok {
		if a.ask(now, checked) {
			return time.Time{}, true
		}
		return a.next(), false
	}
	changed, err := a.check(b.Interface, now, checked)
	if changed {
		return time.Time{}, true // it is now due among those of its interface
	}
	sent := false
	if err == nil {
		sent, err = a.link.send(b, a.allowed)
	}
	if !sent {
		a.schedule.again(b, now)
	} else if a.schedule.done(b, now) {
		// Who has the address and says nothing answers those who ask, and them alone.
		err = errors.Join(err, a.link.probe(b))
	}
	a.report(b, err)
	return time.Time{}, true
}

// check looks after the sockets of an interface, once for a batch. It reports whether they are others than before, in which
// case the burst of what is announced there begins anew.
func (a *Announcer) check(name string, now time.Time, checked map[string]error) (changed bool, err error) {
	err, known := checked[name]
	if known {
		return false, err
	}
	changed, err = a.link.check(name)
	checked[name] = err
	if changed {
		a.schedule.restart(name, now)
	}
	return changed, err
}

// next is when there is something to do; 0 if there is nothing.
func (a *Announcer) next() time.Time {
	next := a.schedule.next()
	for _, i := range a.inquests {
		if next.IsZero() || i.at.Before(next) {
			next = i.at
		}
	}
	return next
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
