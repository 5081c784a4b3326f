package controller

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// wait enters a Service, which does not wait yet, among those that wait for an address.
func (b *book) wait(w *wish) {
	at, _ := slices.BinarySearchFunc(b.waiting, w, compareAge)
	b.waiting = slices.Insert(b.waiting, at, w)
	b.waits[w.service] = w
}

func (b *book) stopWaiting(service types.NamespacedName) {
	w, ok := b.waits[service]
	if !ok {
		return
	}
	delete(b.waits, service)
	if at, found := slices.BinarySearchFunc(b.waiting, w, compareAge); found {
		b.waiting = slices.Delete(b.waiting, at, at+1)
	}
}

// waitingServices is how many Services wait for an address.
func (b *book) waitingServices() int {
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
	failed := map[need]bool{}
	var served []types.NamespacedName
	for _, w := range b.waiting {
		if b.hopeless(w, failed) {
			continue
		}
		grants, failures := b.choose(w)
		if len(grants) > 0 {
			served = append(served, w.service)
			b.wake(w.service)
			continue
		}
		if len(failures) == len(w.needs) {
			for _, n := range w.needs {
				failed[alike(n)] = true
			}
		}
	}
	for _, service := range served {
		b.stopWaiting(service)
	}
}

// hopeless reports whether every need of a wish is like one that failed a moment ago.
func (b *book) hopeless(w *wish, failed map[need]bool) bool {
	return !slices.ContainsFunc(w.needs, func(n need) bool { return n.published.IsValid() || !failed[alike(n)] })
}

// alike is the part of a need that decides whether it can be met, its own published address aside.
func alike(n need) need { return need{family: n.family, addr: n.addr, pool: n.pool} }

// waitingNames are the Services that wait, the oldest first.
func (b *book) waitingNames() []types.NamespacedName {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]types.NamespacedName, len(b.waiting))
	for i, w := range b.waiting {
		names[i] = w.service
	}
	return names
}
