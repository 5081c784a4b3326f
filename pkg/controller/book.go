package controller

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
	"github.com/fairlead/fairlead/pkg/source"
)

// book knows which addresses are used, reserved, or wanted. It is memory only: a VIP object that it does not know of makes a
// creation fail, and is entered then. An address is used while a VIP object has it or it is reserved for a Service that is
// about to create one.
type book struct {
	// wake is called, with the book locked, for a Service that may now get what it waits for.
	wake func(types.NamespacedName)

	mu        sync.Mutex
	pools     []*poolState // by name
	vips      map[string]vipEntry
	users     map[netip.Addr]int // VIP objects with the address: 1, unless somebody made a second one by hand
	reserved  map[netip.Addr]types.NamespacedName
	granted   map[types.NamespacedName][]netip.Addr // inverse of reserved
	published map[netip.Addr]types.NamespacedName   // what the status of a Service shows
	shows     map[types.NamespacedName][]netip.Addr // inverse of published
	waiting   []*wish                               // by age
	waits     map[types.NamespacedName]*wish
}

// vipEntry is a VIP object.
type vipEntry struct {
	addr   netip.Addr
	holder string // who has it, for messages
}

func newBook(wake func(types.NamespacedName)) *book {
	return &book{
		wake:      wake,
		vips:      map[string]vipEntry{},
		users:     map[netip.Addr]int{},
		reserved:  map[netip.Addr]types.NamespacedName{},
		granted:   map[types.NamespacedName][]netip.Addr{},
		published: map[netip.Addr]types.NamespacedName{},
		shows:     map[types.NamespacedName][]netip.Addr{},
		waits:     map[types.NamespacedName]*wish{},
	}
}

// setPools replaces all pools and offers what is free to who waits.
func (b *book) setPools(objects []*v1alpha1.IPPool) {
	states := resolvePools(objects)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pools = states
	for addr := range b.users {
		b.take(addr)
	}
	for addr := range b.reserved {
		b.take(addr)
	}
	b.offer()
}

// take and free mark an address in every pool that holds it: several do only where they overlap. Marking twice is no error.
func (b *book) take(addr netip.Addr) {
	for _, p := range b.pools {
		_ = p.free.Take(addr)
	}
}

func (b *book) free(addr netip.Addr) {
	if _, kept := b.reserved[addr]; kept || b.users[addr] > 0 {
		return
	}
	for _, p := range b.pools {
		_ = p.free.Release(addr)
	}
}

// vipAddr is the address of a VIP object: what its name says, for names are what the API server keeps unique.
func vipAddr(vip *v1alpha1.VIP) (netip.Addr, bool) {
	if addr, err := source.ParseVIPName(vip.Name); err == nil {
		return addr, true
	}
	addr, err := netip.ParseAddr(vip.Spec.Address)
	return addr, err == nil
}

// holderOf names the Services of a VIP object.
func holderOf(vip *v1alpha1.VIP) string {
	var names []string
	for _, f := range vip.Spec.Frontends {
		if name := f.Service.Namespace + "/" + f.Service.Name; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "VIP object " + vip.Name
	}
	return "Service " + strings.Join(names, ", ")
}

// observe enters a VIP object.
func (b *book) observe(vip *v1alpha1.VIP) {
	addr, ok := vipAddr(vip)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old, known := b.vips[vip.Name]
	b.vips[vip.Name] = vipEntry{addr: addr, holder: holderOf(vip)}
	if known && old.addr == addr {
		return
	}
	b.users[addr]++
	b.take(addr)
	if known {
		b.unuse(old.addr)
	}
}

// forgetVIP removes a VIP object and offers its address to who waits.
func (b *book) forgetVIP(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, known := b.vips[name]; known {
		delete(b.vips, name)
		b.unuse(old.addr)
		b.offer()
	}
}

// knows reports whether a VIP object is entered.
func (b *book) knows(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, known := b.vips[name]
	return known
}

func (b *book) unuse(addr netip.Addr) {
	if b.users[addr]--; b.users[addr] <= 0 {
		delete(b.users, addr)
		b.free(addr)
	}
}

// publish records what the status of a Service of ours shows, so that nobody else is given it while its VIP object is missing.
func (b *book) publish(service types.NamespacedName, addrs []netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(b.shows[service], addrs) {
		return
	}
	for _, addr := range b.shows[service] {
		if b.published[addr] == service {
			delete(b.published, addr)
		}
	}
	withdrawn := len(b.shows[service]) > 0
	delete(b.shows, service)
	for _, addr := range addrs {
		if _, other := b.published[addr]; !other {
			b.published[addr] = service
			b.shows[service] = append(b.shows[service], addr)
		}
	}
	if withdrawn {
		b.offer()
	}
}

// reserve reserves addresses for a wish in place of those reserved for its Service before. There is one failure for each need
// that is not met, and, for a wish that is all or nothing, no grant then. What is not met waits from this moment on.
func (b *book) reserve(w *wish) (grants []grant, failures []failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopWaiting(w.service)
	returned := b.unreserve(w.service)
	grants, failures = b.choose(w)
	if rest := w.without(grants); len(failures) > 0 {
		b.wait(rest)
	}
	if returned {
		b.offer()
	}
	return grants, failures
}

// done returns addresses that were reserved for a Service: those that became VIP objects stay used, others go to who waits.
func (b *book) done(service types.NamespacedName, grants []grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range grants {
		if b.reserved[g.addr] != service {
			continue
		}
		delete(b.reserved, g.addr)
		b.granted[service] = slices.DeleteFunc(b.granted[service], func(a netip.Addr) bool { return a == g.addr })
		b.free(g.addr)
	}
	if len(b.granted[service]) == 0 {
		delete(b.granted, service)
	}
	b.offer()
}

// settle says that a Service lacks nothing: it waits no more, and what is reserved for it goes to who does.
func (b *book) settle(service types.NamespacedName) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopWaiting(service)
	if b.unreserve(service) {
		b.offer()
	}
}

func (b *book) unreserve(service types.NamespacedName) (any bool) {
	for _, addr := range b.granted[service] {
		delete(b.reserved, addr)
		b.free(addr)
		any = true
	}
	delete(b.granted, service)
	return any
}

// choose reserves an address for each need that can be met.
func (b *book) choose(w *wish) (grants []grant, failures []failure) {
	missing := false
	for i := range w.needs {
		g, fail := b.find(w.service, &w.needs[i])
		if fail != nil {
			failures = append(failures, *fail)
			missing = missing || !w.needs[i].replaces
			continue
		}
		b.take(g.addr)
		b.reserved[g.addr] = w.service
		b.granted[w.service] = append(b.granted[w.service], g.addr)
		grants = append(grants, g)
	}
	if w.all && missing {
		b.unreserve(w.service)
		return nil, failures
	}
	return grants, failures
}

// find looks for a free address for a need: the one asked for, else the one that the status shows, else the lowest of the
// first pool by name.
func (b *book) find(service types.NamespacedName, n *need) (grant, *failure) {
	if n.addr.IsValid() {
		return b.findAsked(n)
	}
	pools, fail := b.candidates(n)
	if fail != nil {
		return grant{}, fail
	}
	if n.published.IsValid() && b.published[n.published] == service {
		for _, p := range b.pools {
			if p.usable() && (n.pool == "" || n.pool == p.name()) && p.free.Free(n.published) {
				return grant{n.family, n.published, p.name()}, nil
			}
		}
	}
	for _, p := range pools {
		if addr, ok := b.lowest(p, n.family, service); ok {
			return grant{n.family, addr, p.name()}, nil
		}
	}
	return grant{}, b.exhausted(n, pools)
}

// lowest finds the lowest free address of a pool that no other Service shows in its status.
func (b *book) lowest(p *poolState, family pool.Family, service types.NamespacedName) (netip.Addr, bool) {
	var tried []netip.Addr
	defer func() {
		for _, addr := range tried {
			_ = p.free.Release(addr)
		}
	}()
	for {
		addr, ok := p.free.Allocate(family)
		if !ok {
			return netip.Addr{}, false
		}
		tried = append(tried, addr)
		if other, shown := b.published[addr]; !shown || other == service {
			return addr, true
		}
	}
}
