package speaker

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/announce"
	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/election"
	"github.com/fairlead/fairlead/pkg/model"
)

const (
	// askAgainEvery is how long an address that another host has is left alone before it is asked for again, and
	// askAgainSpread by how much longer that is at the most: two clusters that want one address and asked for it at the
	// same time ask at different times then, and one of them finds it free.
	askAgainEvery  = 10 * time.Second
	askAgainSpread = 2 * time.Second
	// freeAnswers is how often in a row an address that another host had must be found free. The other may be a node of
	// another cluster with the same pool: in the seconds that a failover takes there, the address only seems to be free.
	freeAnswers = 2
	// heldLately is for how long after its holder was last seen to live a VIP is taken without asking. In less time no other
	// cluster takes it: see freeAnswers.
	heldLately = askAgainEvery
	// newFor is for how long after it was found free an address is let go if another host turns out to use it: one that asked
	// at the same time and did not hear this node, or that was there and not heard. The first announcements (package announce),
	// which tell either of the other, take half of it; a busy node may begin late. After that the address is defended.
	newFor = 10 * time.Second
	// conflictLasts is how long after the last that was heard of another host a VIP that is held counts as contested. Who
	// keeps silent is asked with every refresh of the announcements, each 30 s: one answer may get lost.
	conflictLasts = time.Minute
	// conflictLook is how often is looked whether it is time for one or the other.
	conflictLook = time.Second
)

// conflicts keeps addresses that other hosts use from being bound, and tells of them. A VIP that no node held lately is asked
// for first, in the background; one that moves between nodes of this cluster is not, since that would take the time of a
// failover. While a VIP is held, whoever else claims it is answered.
type conflicts struct {
	config Config
	notify func()
	kick   chan struct{} // buffered: there is something to ask for

	mu        sync.Mutex
	addresses map[netip.Addr]*contested
	nodes     map[string][]string      // the hardware addresses that each node of the cluster had when it last told
	renewed   map[string]time.Time     // when each other node's speaker was last seen to renew its heartbeat
	had       map[netip.Addr]time.Time // when this node last had to let go of an address
}

func newConflicts(config Config, notify func()) *conflicts {
	return &conflicts{
		config: config, notify: notify, kick: make(chan struct{}, 1), addresses: map[netip.Addr]*contested{},
		nodes: map[string][]string{}, renewed: map[string]time.Time{}, had: map[netip.Addr]time.Time{},
	}
}

// follow learns when other nodes lived and which hardware addresses are the cluster's own. Those of a node whose speaker is gone
// stay known: its kernel may answer for a while.
func (c *conflicts) follow(status election.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for node, silent := range status.Silent {
		c.renewed[node] = time.Now().Add(-silent)
	}
	for node, info := range status.Speakers {
		if len(info.Interfaces) == 0 {
			continue // it has just begun
		}
		macs := c.nodes[node][:0:0]
		for _, item := range info.Interfaces {
			if item.MAC != "" {
				macs = append(macs, item.MAC)
			}
		}
		c.nodes[node] = macs
	}
}

// foreign reports whether a hardware address is none of the cluster's. The lock is held.
func (c *conflicts) foreign(mac string) bool {
	for _, macs := range c.nodes {
		if slices.Contains(macs, mac) {
			return false
		}
	}
	return true
}

// admit returns the bindings that may be bound now. Of the others it is found out, and notify called when there is news.
func (c *conflicts) admit(vips []*v1alpha1.VIP, bindings []model.Binding) ([]model.Binding, error) {
	newcomers, err := c.newcomers(vips, bindings)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.addresses, newcomers)
	admitted := make([]model.Binding, 0, len(bindings))
	wanted := make(map[netip.Addr]bool, len(bindings))
	ask := false
	for _, b := range bindings {
		wanted[b.Addr] = true
		known := c.addresses[b.Addr]
		if known.binding != b { // on another interface now, where others may be
			known.binding, known.asking, known.again = b, false, time.Time{}
		}
		if known.free {
			admitted = append(admitted, b)
		} else if !known.asking && known.again.IsZero() {
			known.again, ask = time.Now(), true
		}
	}
	c.drop(wanted)
	c.count()
	if ask {
		poke(c.kick)
	}
	if len(admitted) == len(bindings) {
		return bindings, nil // the very list: see model.Same
	}
	return admitted, nil
}

// drop forgets the addresses that are not wanted any more, but not yet that this node had them. The lock is held.
func (c *conflicts) drop(wanted map[netip.Addr]bool) {
	now := time.Now()
	maps.DeleteFunc(c.had, func(_ netip.Addr, at time.Time) bool { return now.Sub(at) >= heldLately })
	for addr, known := range c.addresses {
		if wanted[addr] {
			continue
		}
		if known.free {
			c.had[addr] = now
		}
		delete(c.addresses, addr)
	}
}

// lately reports whether this node had an address a moment ago, or the one did that its VIP's status names. If neither did, the
// cluster may have been gone for so long that another took the address. The lock is held.
func (c *conflicts) lately(addr netip.Addr, node string) bool {
	return time.Since(c.had[addr]) < heldLately || time.Since(c.renewed[node]) < heldLately
}

// newcomers are the bindings that were not wanted before. Those are free at once that are bound, or whose VIP another node of
// this cluster held lately.
func (c *conflicts) newcomers(vips []*v1alpha1.VIP, bindings []model.Binding) (map[netip.Addr]*contested, error) {
	newcomers := map[netip.Addr]*contested{}
	c.mu.Lock()
	for _, b := range bindings {
		if c.addresses[b.Addr] == nil {
			newcomers[b.Addr] = &contested{binding: b, rivals: map[string]*rival{}}
		}
	}
	c.mu.Unlock()
	if len(newcomers) == 0 {
		return nil, nil
	}
	bound, err := c.config.Kernel.Addresses.Bound()
	if err != nil {
		return nil, err
	}
	for _, b := range bound {
		if newcomer := newcomers[b.Addr]; newcomer != nil && newcomer.binding == b {
			newcomer.free = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, vip := range vips {
		addr, err := netip.ParseAddr(vip.Spec.Address)
		if newcomer := newcomers[addr]; err == nil && newcomer != nil {
			newcomer.vip = vip
			newcomer.free = newcomer.free || c.lately(addr, vip.Status.Node)
		}
	}
	return newcomers, nil
}

// run asks until the context ends: for all that is due at once, and beside what is under way.
func (c *conflicts) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	ticker := time.NewTicker(conflictLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		case <-ticker.C:
		}
		now := time.Now()
		if c.expire(now) {
			c.notify()
		}
		if due := c.due(now); len(due) > 0 {
			work.Go(func() { c.ask(ctx, due) })
		}
	}
}

// due are the bindings that are to be asked for now.
func (c *conflicts) due(now time.Time) (due []model.Binding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.addresses {
		if !known.free && !known.asking && !known.again.IsZero() && !known.again.After(now) {
			known.asking = true
			due = append(due, known.binding)
		}
	}
	return due
}

// ask finds out which addresses other hosts have. What cannot be asked for is bound all the same: where that does not work,
// announcing does not, and nobody can be disturbed.
func (c *conflicts) ask(ctx context.Context, bindings []model.Binding) {
	found, err := c.config.Kernel.Announcer.Probe(ctx, bindings)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "Cannot find out whether another host has some addresses; they are bound unasked")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.notify()
	for _, b := range bindings {
		known := c.addresses[b.Addr]
		if known == nil || known.binding != b || !known.asking {
			continue // it is wanted no more, or elsewhere
		}
		known.asking, known.again = false, time.Time{}
		if sighting, used := found[b.Addr]; used && c.foreign(sighting.MAC) {
			c.note(known, sighting)
			known.lacking = freeAnswers
		} else if known.lacking > 0 {
			known.lacking--
		}
		if known.lacking > 0 {
			known.again = nextQuestion()
			continue
		}
		known.free, known.found = true, time.Now()
		for mac := range known.rivals {
			c.forget(known, mac)
		}
	}
	c.count()
}

func nextQuestion() time.Time { return time.Now().Add(askAgainEvery + rand.N(askAgainSpread)) }

// see takes in another host that the announcer heard of. Several goroutines may call it.
func (c *conflicts) see(sighting announce.Sighting) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.addresses[sighting.Addr]
	if known == nil || known.binding.Interface != sighting.Interface {
		return
	}
	if !known.free {
		return // what keeps it from being bound comes from asking
	}
	if !c.foreign(sighting.MAC) {
		// A node that gives the VIP away answers for it until it lets go. To who asks by neighbour discovery whether an address is
		// free, as this node does once it has announced one (RFC 4862, section 5.4.3), its kernel answers all neighbours. When it has
		// let go it asks itself.
		c.config.Kernel.Announcer.Repeat(known.binding)
		return
	}
	letGo := !sighting.Asking && time.Since(known.found) < newFor
	if letGo {
		known.free, known.lacking, known.again = false, freeAnswers, nextQuestion()
	}
	if c.note(known, sighting) || letGo {
		c.count()
		c.notify()
	}
	if !sighting.Asking && !letGo { // who asks is answered by the kernel, or by the announcer
		c.config.Kernel.Announcer.Defend(known.binding)
	}
}

// note remembers a foreign host, and tells of it if it is new. It reports whether there is news. The lock is held.
func (c *conflicts) note(known *contested, sighting announce.Sighting) (news bool) {
	if one := known.rivals[sighting.MAC]; one != nil {
		news = !one.uses && !sighting.Asking
		one.iface, one.last, one.uses = sighting.Interface, sighting.At, one.uses || !sighting.Asking
		return news
	}
	if len(known.rivals) == rivalsMost {
		return false
	}
	known.rivals[sighting.MAC] = &rival{iface: sighting.Interface, last: sighting.At, uses: !sighting.Asking}
	c.config.Metrics.conflicts.Inc()
	c.tell(known, corev1.EventTypeWarning, v1alpha1.VIPReasonConflict, known.message(c.config.Node))
	return true
}

// forget ends what is known of a foreign host, and tells of it. The lock is held.
func (c *conflicts) forget(known *contested, mac string) {
	delete(known.rivals, mac)
	c.tell(known, corev1.EventTypeNormal, v1alpha1.VIPReasonNoConflict,
		fmt.Sprintf("node %s: host %s was not heard to use the address any more", c.config.Node, mac))
}

func (c *conflicts) tell(known *contested, kind, reason, message string) {
	if known.vip != nil {
		c.config.Recorder.Event(known.vip, kind, reason, message)
	}
}

// expire forgets the foreign hosts that were not heard of lately, and reports whether there were any.
func (c *conflicts) expire(now time.Time) (some bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.addresses {
		for mac, one := range known.rivals {
			if now.Sub(one.last) >= conflictLasts {
				c.forget(known, mac)
				some = true
			}
		}
	}
	if some {
		c.count()
	}
	return some
}

// count sets the metric. The lock is held.
func (c *conflicts) count() {
	n := 0
	for _, known := range c.addresses {
		if len(known.rivals) > 0 {
			n++
		}
	}
	c.config.Metrics.contested.Set(float64(n))
}

// message says who else uses an address that this node holds or is to hold, and what to do; it is empty if nobody does. refused
// says that the address is not bound for that.
func (c *conflicts) message(addr netip.Addr) (text string, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.addresses[addr]
	if known == nil {
		return "", false
	}
	text = known.message(c.config.Node)
	return text, text != "" && !known.free
}

// any reports whether other hosts use any address.
func (c *conflicts) any() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.addresses {
		if len(known.rivals) > 0 {
			return true
		}
	}
	return false
}
