package kube

import "k8s.io/client-go/util/flowcontrol"

// newRateLimiter is one bucket for all clients of a process: each of them by itself would be allowed the whole rate.
func newRateLimiter(qps float32, burst int) flowcontrol.RateLimiter {
	if qps <= 0 {
		return nil
	}
	return flowcontrol.NewTokenBucketRateLimiter(qps, max(burst, 1))
}
