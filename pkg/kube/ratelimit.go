package kube

import (
	"context"

	"k8s.io/client-go/util/flowcontrol"
)

// Pace is that of work which may wait.
type Pace interface {
	// Wait returns when the next piece may be done, or an error when the context ends before.
	Wait(ctx context.Context) error
}

// NewPace allows so many pieces a second once a burst of them was done.
func NewPace(rate float32, burst int) Pace { return flowcontrol.NewTokenBucketRateLimiter(rate, burst) }

// newRateLimiter is one bucket for all clients of a process: each of them by itself would be allowed the whole rate.
func newRateLimiter(qps float32, burst int) flowcontrol.RateLimiter {
	if qps <= 0 {
		return nil
	}
	return flowcontrol.NewTokenBucketRateLimiter(qps, max(burst, 1))
}
