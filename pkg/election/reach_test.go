package election

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

// TestTheFirstAnswerAfterSilenceIsTold, and no other: connections are made anew then.
func TestTheFirstAnswerAfterSilenceIsTold(t *testing.T) {
	client := newAPI()
	var silent atomic.Bool
	var written, failed, told atomic.Int32
	client.PrependReactor("update", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		if silent.Load() {
			failed.Add(1)
			return true, nil, errors.New("no route to host")
		}
		written.Add(1)
		return false, nil, nil
	})
	e := New(Config{
		Node: "a", Namespace: namespace, Client: client, Timing: quick(), Clock: BootTime, Notify: func() {},
		Resumed: func() { told.Add(1) },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	e.SetVIPs(nil, Status{Settled: true})
	e.SetBound(map[string]bool{})
	e.SetInfo(Info{})
	for round := range int32(2) {
		before := written.Load()
		eventually(t, "it renews its heartbeat", func() bool { return written.Load() >= before+2 })
		silent.Store(true)
		before = failed.Load()
		eventually(t, "it gets no answer twice", func() bool { return failed.Load() >= before+2 })
		if told.Load() != round {
			t.Errorf("without an answer it was told %d times, not %d", told.Load(), round)
		}
		silent.Store(false)
		before = written.Load()
		eventually(t, "it renews again and again", func() bool { return written.Load() >= before+3 })
		if told.Load() != round+1 {
			t.Errorf("told %d times, not %d", told.Load(), round+1)
		}
	}
}
