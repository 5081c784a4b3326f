package controller

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
)

// told remembers what users were last told by events about a Service, so that an event means a change. A new leader may repeat
// the last one once.
type told struct {
	mu      sync.Mutex
	failure map[types.UID]string
	shown   map[types.UID]string // addresses
}

func newTold() *told { return &told{failure: map[types.UID]string{}, shown: map[types.UID]string{}} }

// failed records the failure of a Service ("": none) and reports whether it is another than before.
func (t *told) failed(uid types.UID, text string) bool {
	return t.change(t.failure, uid, text)
}

// has records the addresses of a Service and reports whether they are others than before.
func (t *told) has(uid types.UID, addresses string) bool {
	return t.change(t.shown, uid, addresses)
}

func (t *told) change(about map[types.UID]string, uid types.UID, text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if about[uid] == text {
		return false
	}
	if text == "" {
		delete(about, uid)
	} else {
		about[uid] = text
	}
	return true
}

// forget drops a Service that is gone or no longer ours.
func (t *told) forget(uid types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.failure, uid)
	delete(t.shown, uid)
}
