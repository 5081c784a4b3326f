package controller

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/pkg/pool"
)

// wait enters a wish, whose asker does not wait yet, among those that wait for an address.
func (b *book) wait(w *wish) {
	at, _ := slices.BinarySearchFunc(b.waiting, w, compareAge)
	b.waiting = slices.Insert(b.waiting, at, w)
	b.waits[w.asker] = w
	b.countAsked(w, 1)
}

func (b *book) stopWaiting(who asker) {
	w, ok := b.waits[who]
	if !ok {
		return
	}
	delete(b.waits, who)
	b.countAsked(w, -1)
	if at, found := slices.BinarySearchFunc(b.waiting, w, compareAge); found {
		b.waiting = slices.Delete(b.waiting, at, at+1)
	}
}

// waitingFor are those that wait for one address.
func (b *book) waitingFor(addr netip.Addr) (who []asker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked[addr] == 0 {
		return nil
	}
	for _, w := range b.waiting {
		if slices.ContainsFunc(w.needs, func(n need) bool { return n.addr == addr }) {
			who = append(who, w.asker)
		}
	}
	return who
}

// countAsked counts the wishes that wait for an address.
func (b *book) countAsked(w *wish, by int) {
	for i := range w.needs {
		if addr := w.needs[i].addr; addr.IsValid() {
			if b.asked[addr] += by; b.asked[addr] == 0 {
				delete(b.asked, addr)
			}
		}
	}
}

// waitingCount is how many Services and claims wait for an address.
func (b *book) waitingCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting)
}

// offer reserves what is free for those that wait, the oldest first, and wakes them. Reserving here, and not when they are
// worked on, is what makes age count: neither a younger one nor a new one can be faster. A wish that failed makes like ones
// fail without a look, so that many that wait for the same cost little.
func (b *book) offer() {
	if len(b.waiting) == 0 {
		return
	}
	failed := map[likeness]failure{}
	var served []asker
	for _, w := range b.waiting {
		failures, hopeless := b.hopeless(w, failed)
		if !hopeless {
			var grants []grant
			if grants, failures = b.choose(w); len(grants) > 0 {
				served = append(served, w.asker)
				b.wake(w.asker)
				continue
			}
			for i := range w.needs {
				if len(failures) == len(w.needs) {
					failed[b.alike(w, &w.needs[i])] = failures[i]
				}
			}
		}
		if now := texts(failures); now != w.told { // it waits for another reason than before
			w.told = now
			b.wake(w.asker)
		}
	}
	for _, who := range served {
		b.stopWaiting(who)
	}
}

// likeness is the part of a need that decides whether it can be met, its own published address aside.
type likeness struct {
	family                  pool.Family
	addr                    netip.Addr
	pool, namespace, labels string
	claim                   bool
}

func (b *book) alike(w *wish, n *need) likeness {
	like := likeness{family: n.family, addr: n.addr, pool: n.pool, namespace: w.asker.Namespace, claim: isClaim(w.asker)}
	if slices.ContainsFunc(b.pools, func(p *poolState) bool { return len(p.serviceSelectors) > 0 }) {
		like.labels = labels.FormatLabels(w.labels)
	}
	return like
}

// hopeless reports whether every need of a wish is like one that failed a moment ago, and why those did. One that shares is not
// like another: its ports decide.
func (b *book) hopeless(w *wish, failed map[likeness]failure) (failures []failure, yes bool) {
	if w.shareKey() != "" {
		return nil, false
	}
	for i := range w.needs {
		fail, known := failed[b.alike(w, &w.needs[i])]
		if w.needs[i].published.IsValid() || !known {
			return nil, false
		}
		failures = append(failures, fail)
	}
	return failures, true
}

// waitingNames are those that wait, the oldest first.
func (b *book) waitingNames() []asker {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]asker, len(b.waiting))
	for i, w := range b.waiting {
		names[i] = w.asker
	}
	return names
}
