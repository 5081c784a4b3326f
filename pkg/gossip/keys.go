package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// keys is a key ring that can be replaced while it is in use.
type keys struct {
	there chan struct{} // closed once there are any

	mu   sync.Mutex
	ring *memberlist.Keyring
}

func newKeys() *keys { return &keys{there: make(chan struct{}), ring: &memberlist.Keyring{}} }

// set installs keys, the first as the one that encrypts, and removes all others.
func (k *keys) set(want [][]byte) error {
	if len(want) == 0 {
		return errors.New("no key to encrypt gossip with")
	}
	for i, key := range want {
		if err := memberlist.ValidateKey(key); err != nil {
			return fmt.Errorf("key %d has %d bytes: it must have 16, 24 or 32", i, len(key))
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	had := k.ring.GetKeys()
	for _, key := range want {
		if err := k.ring.AddKey(slices.Clone(key)); err != nil {
			return err
		}
	}
	// RemoveKey shifts what is behind a key, which others may be reading. The keys that stay are brought to the front, so
	// that nothing is behind those that go; the last to be brought is the one that encrypts.
	for _, key := range slices.Backward(want) {
		if err := k.ring.UseKey(key); err != nil {
			return err
		}
	}
	for _, key := range slices.Backward(k.ring.GetKeys()) {
		if !slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(w, key) }) {
			if err := k.ring.RemoveKey(key); err != nil {
				return err
			}
		}
	}
	if len(had) == 0 {
		close(k.there)
	}
	return nil
}
