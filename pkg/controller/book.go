package controller

import (
	"net/netip"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/source"
)

// book knows which addresses are used, reserved, or wanted. It is memory only: a VIP object that it does not know of makes a
// creation fail, and is entered then. An address is used while a VIP object has it, or while it is reserved for those that
// are about to create or to join one.
type book struct {
	// wake is called, with the book locked, for one that may now get what it waits for.
	wake func(asker)
	// freed is called, with the book locked, for a pool that has an address back.
	freed func(pool string)

	mu         sync.Mutex
	pools      []*poolState // in the order in which they are tried
	namespaces map[string]map[string]string
	vips       map[netip.Addr]*v1alpha1.VIP // as last seen: never written
	reserved   map[netip.Addr][]*wish
	granted    map[asker][]netip.Addr        // inverse of reserved
	published  map[netip.Addr][]asker        // what the statuses of Services show
	shows      map[asker][]netip.Addr        // inverse of published
	sharing    map[string]map[netip.Addr]int // by key: addresses of frontends and reservations that share
	waiting    []*wish                       // by age
	waits      map[asker]*wish
	asked      map[netip.Addr]int // how many wait for this one
}

func newBook(wake func(asker), freed func(pool string)) *book {
	return &book{
		wake:       wake,
		freed:      freed,
		namespaces: map[string]map[string]string{},
		vips:       map[netip.Addr]*v1alpha1.VIP{},
		reserved:   map[netip.Addr][]*wish{},
		granted:    map[asker][]netip.Addr{},
		published:  map[netip.Addr][]asker{},
		shows:      map[asker][]netip.Addr{},
		sharing:    map[string]map[netip.Addr]int{},
		waits:      map[asker]*wish{},
		asked:      map[netip.Addr]int{},
	}
}

// setPools replaces all pools and offers what is free to who waits.
func (b *book) setPools(objects []*v1alpha1.IPPool) {
	states := resolvePools(objects)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pools = states
	for addr := range b.vips {
		b.take(addr)
	}
	for addr := range b.reserved {
		b.take(addr)
	}
	b.offer()
}

// setNamespace enters the labels of a namespace, which pools may select; nil: it is gone.
func (b *book) setNamespace(name string, labels map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if labels == nil {
		delete(b.namespaces, name)
		return
	}
	b.namespaces[name] = labels
	b.offer()
}

// take and free mark an address in every pool that holds it: several do only where they overlap. Marking twice is no error.
func (b *book) take(addr netip.Addr) {
	for _, p := range b.pools {
		_ = p.free.Take(addr)
	}
}

func (b *book) free(addr netip.Addr) {
	if len(b.reserved[addr]) > 0 || b.vips[addr] != nil {
		return
	}
	for _, p := range b.pools {
		if err := p.free.Release(addr); err == nil {
			b.freed(p.name())
		}
	}
}

// vipAddr is the address of a VIP object: its name, for names are what the API server keeps unique. A claim has none of its
// own.
func vipAddr(vip *v1alpha1.VIP) (netip.Addr, bool) {
	addr, err := source.ParseVIPName(vip.Name)
	return addr, err == nil
}

// holderOf names who has a VIP object.
func holderOf(vip *v1alpha1.VIP) string {
	var names []string
	add := func(kind, name string) {
		if text := kind + " " + name; !slices.Contains(names, text) {
			names = append(names, text)
		}
	}
	for _, f := range vip.Spec.Frontends {
		if f.ConfigMap == "" {
			add("Service", f.Service.Namespace+"/"+f.Service.Name)
		}
	}
	for _, o := range vip.Spec.Owners {
		if o.Kind == v1alpha1.OwnerVIP {
			add("claim", o.Name)
		} else {
			add(o.Kind, o.Namespace+"/"+o.Name)
		}
	}
	if len(names) == 0 {
		return "VIP object " + vip.Name
	}
	return strings.Join(names, ", ")
}

// observe enters a VIP object. Where what is on it changed, those that wait for room there may have it now.
func (b *book) observe(vip *v1alpha1.VIP) {
	addr, ok := vipAddr(vip)
	if !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.vips[addr]
	if old != nil {
		order, err := resourceversion.CompareResourceVersion(vip.ResourceVersion, old.ResourceVersion)
		if err == nil && order < 0 {
			return // late
		}
	}
	b.vips[addr] = vip
	b.share(addr, vip.Spec.Frontends, 1)
	if old == nil {
		b.take(addr)
		return
	}
	b.share(addr, old.Spec.Frontends, -1)
	if len(vip.Spec.Frontends) < len(old.Spec.Frontends) || len(vip.Spec.Owners) < len(old.Spec.Owners) {
		b.offer()
	}
}

// forgetVIP removes a VIP object and offers its address to who waits. One that has the same name and came after it stays.
func (b *book) forgetVIP(name string, uid types.UID) {
	addr, err := source.ParseVIPName(name)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.vips[addr]; old != nil && old.UID == uid {
		delete(b.vips, addr)
		b.share(addr, old.Spec.Frontends, -1)
		b.free(addr)
		b.offer()
	}
}

// knows reports whether a VIP object of the name is entered, and which.
func (b *book) knows(name string) (uid types.UID, yes bool) {
	addr, err := source.ParseVIPName(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if vip := b.vips[addr]; err == nil && vip != nil {
		return vip.UID, true
	}
	return "", false
}

// share counts the frontends that share an address, by key.
func (b *book) share(addr netip.Addr, frontends []v1alpha1.Frontend, n int) {
	for _, f := range frontends {
		if f.Share == nil {
			continue
		}
		at := b.sharing[f.Share.Key]
		if at == nil {
			at = map[netip.Addr]int{}
			b.sharing[f.Share.Key] = at
		}
		if at[addr] += n; at[addr] == 0 {
			delete(at, addr)
		}
		if len(at) == 0 {
			delete(b.sharing, f.Share.Key)
		}
	}
}

// publish records what the status of a Service of ours shows, so that nobody else is given it while its VIP object is missing.
func (b *book) publish(service asker, addrs []netip.Addr) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(b.shows[service], addrs) {
		return
	}
	withdrawn := len(b.shows[service]) > 0
	for _, addr := range b.shows[service] {
		b.published[addr] = slices.DeleteFunc(b.published[addr], func(a asker) bool { return a == service })
		if len(b.published[addr]) == 0 {
			delete(b.published, addr)
		}
	}
	delete(b.shows, service)
	if len(addrs) > 0 {
		b.shows[service] = slices.Clone(addrs)
	}
	for _, addr := range addrs {
		b.published[addr] = append(b.published[addr], service)
	}
	if withdrawn {
		b.offer()
	}
}

// reserve reserves addresses for a wish in place of those reserved for its asker before. There is one failure for each need
// that is not met, and, for a wish that is all or nothing, no grant then. What is not met waits from this moment on.
func (b *book) reserve(w *wish) (grants []grant, failures []failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopWaiting(w.asker)
	returned := b.unreserve(w.asker)
	grants, failures = b.choose(w)
	if rest := w.without(grants); len(failures) > 0 {
		rest.told = texts(failures)
		b.wait(rest)
	}
	if returned {
		b.offer()
	}
	return grants, failures
}

// done returns addresses that were reserved: those that became VIP objects stay used, others go to who waits.
func (b *book) done(who asker, grants []grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range grants {
		b.giveBack(who, g.addr)
		b.granted[who] = slices.DeleteFunc(b.granted[who], func(a netip.Addr) bool { return a == g.addr })
	}
	if len(b.granted[who]) == 0 {
		delete(b.granted, who)
	}
	b.offer()
}

// settle says that an asker lacks nothing: it waits no more, and what is reserved for it goes to who does.
func (b *book) settle(who asker) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopWaiting(who)
	if b.unreserve(who) {
		b.offer()
	}
}

func (b *book) unreserve(who asker) (any bool) {
	for _, addr := range b.granted[who] {
		b.giveBack(who, addr)
		any = true
	}
	delete(b.granted, who)
	return any
}

// keep reserves an address for a wish.
func (b *book) keep(w *wish, addr netip.Addr) {
	b.take(addr)
	b.reserved[addr] = append(b.reserved[addr], w)
	b.granted[w.asker] = append(b.granted[w.asker], addr)
	b.share(addr, w.frontends, 1)
}

// giveBack is the inverse of keep, but for granted.
func (b *book) giveBack(who asker, addr netip.Addr) {
	at := slices.IndexFunc(b.reserved[addr], func(w *wish) bool { return w.asker == who })
	if at < 0 {
		return
	}
	b.share(addr, b.reserved[addr][at].frontends, -1)
	b.reserved[addr] = slices.Delete(b.reserved[addr], at, at+1)
	if len(b.reserved[addr]) == 0 {
		delete(b.reserved, addr)
	}
	b.free(addr)
}
