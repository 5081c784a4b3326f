package controller

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// unsure are the VIP objects of which nobody knows whether a write of ours was carried out, because its answer was lost. What is
// cached of them may be older than what they are now, and is not acted upon.
type unsure struct {
	mu    sync.Mutex
	names map[string]bool
}

func newUnsure() *unsure { return &unsure{names: map[string]bool{}} }

// failed notes a write that ended in an error, unless the error says that nothing was written.
func (u *unsure) failed(name string, err error) {
	if err == nil || apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) ||
		apierrors.IsForbidden(err) || apierrors.IsBadRequest(err) || apierrors.IsTooManyRequests(err) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.names[name] = true
}

func (u *unsure) list() (names []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for name := range u.names {
		names = append(names, name)
	}
	return names
}

func (u *unsure) settled(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.names, name)
}

// makeSure reads the VIP objects that are unsure.
func (c *Controller) makeSure(ctx context.Context) error {
	for _, name := range c.unsure.list() {
		uid, _ := c.book.knows(name)
		live, err := c.config.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			if believed, ok := c.vips.newest(name); ok {
				c.vips.removed(name, believed)
				defer c.countChanged(believed)
			}
			c.book.forgetVIP(name, uid)
		case err != nil:
			return fmt.Errorf("read VIP %s, of which a write was not answered: %w", name, err)
		default:
			c.vips.wrote(name, live)
			c.observeUnseen(live)
		}
		c.unsure.settled(name)
	}
	return nil
}
