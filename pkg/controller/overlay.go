package controller

import (
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// overlayAge is how long a write is held against a cache that does not show it. A watch that is five minutes behind is broken,
// and what was written may be gone unseen: the cache is then the better witness, and conflicts guard the writes.
const overlayAge = 5 * time.Minute

// minEnded is how many objects may go before those that went long ago are forgotten.
const minEnded = 1000

// overlay shows an informer's cache together with this process's own writes that have not come back through the watch yet, so
// that an object that was just created is not created again, and one that was just written is not written again.
type overlay[T metav1.Object] struct {
	cached func(key string) (T, bool) // what the informer has
	now    func() time.Time

	mu     sync.Mutex
	writes map[string]write[T]     // by the key of the object
	ended  map[types.UID]time.Time // objects that the cache lost of late
	pruned int                     // how many ended were left when they were last looked through
}

type write[T metav1.Object] struct {
	object  T // as the API server answered
	deleted bool
	uid     types.UID
	at      time.Time
}

func newOverlay[T metav1.Object](cached func(string) (T, bool), now func() time.Time) *overlay[T] {
	return &overlay[T]{cached: cached, now: now, writes: map[string]write[T]{}, ended: map[types.UID]time.Time{}, pruned: minEnded}
}

// wrote records the API server's answer to a creation or an update.
func (o *overlay[T]) wrote(key string, object T) {
	o.record(key, write[T]{object: object, uid: object.GetUID(), at: o.now()})
}

// removed records that an object was deleted.
func (o *overlay[T]) removed(key string, object T) {
	o.record(key, write[T]{object: object, deleted: true, uid: object.GetUID(), at: o.now()})
}

// record keeps a write unless the cache has it already, or had it and lost the object since: the informer may be faster than the
// answer.
func (o *overlay[T]) record(key string, w write[T]) {
	o.mu.Lock()
	defer o.mu.Unlock()
	cached, exists := o.cached(key)
	_, ended := o.ended[w.uid]
	if exists && w.hides(cached) || !exists && !ended {
		o.writes[key] = w
	} else {
		delete(o.writes, key)
	}
}

// seen says that the cache now has object: a write that it includes is forgotten.
func (o *overlay[T]) seen(key string, object T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w, ok := o.writes[key]; ok && !w.hides(object) {
		delete(o.writes, key)
	}
}

// gone says that the cache lost an object.
func (o *overlay[T]) gone(key string, uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w, ok := o.writes[key]; ok && w.uid == uid {
		delete(o.writes, key)
	}
	o.ended[uid] = o.now()
	if len(o.ended) >= 2*o.pruned {
		for uid, at := range o.ended {
			if o.now().Sub(at) > overlayAge { // no request lives that long
				delete(o.ended, uid)
			}
		}
		o.pruned = max(minEnded, len(o.ended))
	}
}

// forget drops what was written under a key.
func (o *overlay[T]) forget(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.writes, key)
}

// newest is the newer of what the cache has under a key and what was written.
func (o *overlay[T]) newest(key string) (T, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	cached, exists := o.cached(key)
	w, ok := o.writes[key]
	switch {
	case !ok:
		return cached, exists
	case o.now().Sub(w.at) > overlayAge, exists && !w.hides(cached):
		delete(o.writes, key)
		return cached, exists
	default:
		return w.object, !w.deleted
	}
}

// unseen are the keys of objects that were written, do not show in the cache yet, and match.
func (o *overlay[T]) unseen(match func(T) bool) (keys []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, w := range o.writes {
		if !w.deleted && match(w.object) {
			keys = append(keys, key)
		}
	}
	return keys
}

// hides reports whether the write is newer than an object of the cache.
func (w *write[T]) hides(cached T) bool {
	if w.deleted && cached.GetUID() == w.uid {
		return true
	}
	order, err := resourceversion.CompareResourceVersion(cached.GetResourceVersion(), w.object.GetResourceVersion())
	return err == nil && order < 0
}
