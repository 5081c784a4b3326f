package announce

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// What is asked before an address is announced. Three packets are what RFC 5227 (section 1.1, PROBE_NUM) and hosts that do
// duplicate address detection thoroughly (RFC 4862, section 5.1, DupAddrDetectTransmits, is 1) send. The 1 to 2 s between
// them and the 2 s after the last (PROBE_MIN, PROBE_MAX, ANNOUNCE_WAIT) are not kept: they wait for Ethernet ports that only
// just came up and for hosts that sleep, and a Service would be without its address for 7 s. A host that is there answers
// at once: from its kernel, in less than a millisecond on a LAN. Who was not heard here is heard when the address is
// announced and asked for again.
const (
	probes      = 3
	probeStep   = 60 * time.Millisecond
	probeSettle = 80 * time.Millisecond // after the last
)

// errEnded is what Probe returns when Run ended.
var errEnded = errors.New("the announcer ended")

// inquest is one Probe.
type inquest struct {
	bindings []model.Binding
	asked    map[model.Binding]bool // the same
	round    int
	index    int // in bindings, of the next to ask for
	at       time.Time
	found    map[netip.Addr]Sighting
	failed   map[string]error // by interface
	err      error
	done     chan struct{}
}

// Probe asks for all the bindings' addresses at once whether another host has them, and returns who does, after about 200 ms.
// A host that asks for one of them at the same time counts too (RFC 5227, section 2.1.1; RFC 4862, section 5.4.3). Nothing
// is claimed by asking. An error says on which interfaces could not be asked; of the others the answer counts. Run must run.
func (a *Announcer) Probe(ctx context.Context, bindings []model.Binding) (map[netip.Addr]Sighting, error) {
	if len(bindings) == 0 {
		return nil, nil
	}
	i := &inquest{
		bindings: slices.Clone(bindings), asked: make(map[model.Binding]bool, len(bindings)),
		found: map[netip.Addr]Sighting{}, failed: map[string]error{}, done: make(chan struct{}),
	}
	for _, b := range bindings {
		i.asked[b] = true
	}
	a.ears.watch(bindings)
	defer a.ears.ignore(bindings)
	a.mu.Lock()
	i.at = time.Now()
	a.inquests = append(a.inquests, i)
	a.mu.Unlock()
	a.wakeUp()
	select {
	case <-i.done:
		return i.found, i.err
	case <-ctx.Done():
		a.mu.Lock()
		defer a.mu.Unlock()
		a.inquests = slices.DeleteFunc(a.inquests, func(other *inquest) bool { return other == i })
		return nil, fmt.Errorf("probe %d addresses: %w", len(bindings), ctx.Err())
	}
}

// ask asks for the next address that is to be asked for; false if there is none now. The lock is held.
func (a *Announcer) ask(now time.Time, checked map[string]error) bool {
	if len(a.gone) > 0 {
		b := a.gone[0]
		a.gone = a.gone[1:]
		if _, err := a.check(b.Interface, now, checked); err == nil {
			_ = a.link.probe(b) // what is not heard is made up for by the other's own schedule
		}
		return true
	}
	for _, i := range a.inquests {
		if i.round == probes || i.at.After(now) {
			continue
		}
		b := i.bindings[i.index]
		_, err := a.check(b.Interface, now, checked)
		if err == nil {
			err = a.link.probe(b)
		}
		if err != nil {
			i.failed[b.Interface] = err
		}
		i.next(now)
		return true
	}
	return false
}

// next moves on to the address to ask for next.
func (i *inquest) next(now time.Time) {
	if i.index++; i.index < len(i.bindings) {
		return
	}
	i.index, i.at = 0, now.Add(probeStep)
	if i.round++; i.round == probes {
		i.at = now.Add(probeSettle)
	}
}

// conclude ends the inquests whose time is over. The lock is held.
func (a *Announcer) conclude(now time.Time) {
	a.inquests = slices.DeleteFunc(a.inquests, func(i *inquest) bool {
		over := i.round == probes && !i.at.After(now)
		if over {
			i.end(nil)
		}
		return over
	})
}

func (i *inquest) end(err error) {
	for _, failure := range i.failed {
		err = errors.Join(err, failure)
	}
	if i.err = err; err != nil {
		i.err = fmt.Errorf("probe addresses: %w", err)
	}
	close(i.done)
}

// hear takes in who uses or asks for an address.
func (i *inquest) hear(h heard, at time.Time) {
	if i.asked[h.binding] {
		i.found[h.binding.Addr] = h.sighting(at)
	}
}
