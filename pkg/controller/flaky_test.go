package controller

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	corefake "k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	fairleadfake "github.com/fairlead/fairlead/pkg/generated/clientset/versioned/fake"
)

// link is one process's connection to the server: it loses requests and answers, delays watches, and ends for good after a
// number of requests, before or after the last of them was carried out.
type link struct {
	server *server
	calls  atomic.Int64 // left until the process is killed
	dead   chan struct{}
	once   sync.Once

	mu     sync.Mutex
	random *rand.Rand
	faults float64       // share of requests that go wrong
	lag    time.Duration // at most, of an event of a watch
}

var errKilled = errors.New("the process was killed")

// connect makes clients for a process that lives for a number of requests.
func (s *server) connect(random *rand.Rand, calls int64, faults float64, lag time.Duration) (*link, *corefake.Clientset, *fairleadfake.Clientset) {
	l := &link{server: s, dead: make(chan struct{}), random: random, faults: faults, lag: lag}
	l.calls.Store(calls)
	core, fairlead := &corefake.Clientset{}, &fairleadfake.Clientset{}
	l.attach(&core.Fake, s.core.Tracker())
	l.attach(&fairlead.Fake, s.fairlead.Tracker())
	return l, core, fairlead
}

func (l *link) attach(fake *k8stesting.Fake, tracker k8stesting.ObjectTracker) {
	fake.AddReactor("*", "*", func(action k8stesting.Action) (bool, runtime.Object, error) {
		return l.request(action, tracker)
	})
	fake.AddWatchReactor("*", func(action k8stesting.Action) (bool, watch.Interface, error) {
		if l.killed() {
			return true, nil, errKilled
		}
		inner, err := watchCopies(action, tracker)
		if err != nil {
			return true, nil, err
		}
		return true, l.delay(inner), nil
	})
}

func (l *link) killed() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

func (l *link) chance(p float64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.random.Float64() < p
}

func (l *link) request(action k8stesting.Action, tracker k8stesting.ObjectTracker) (bool, runtime.Object, error) {
	if l.killed() {
		return true, nil, errKilled
	}
	_, write := target(action)
	last := write && l.calls.Add(-1) == 0
	if last {
		defer l.once.Do(func() { close(l.dead) })
	}
	fault := last || action.GetVerb() != "list" && l.chance(l.faults) // informers wait long before they list again
	if fault && l.chance(0.5) {
		return true, nil, apierrors.NewTimeoutError("the request was lost", 0)
	}
	handled, object, err := l.server.react(action, tracker)
	if !handled {
		_, object, err = k8stesting.ObjectReaction(tracker)(action)
	}
	if fault {
		return true, nil, apierrors.NewTimeoutError("the answer was lost", 0)
	}
	return true, object, err
}

// delay passes the events of a watch on in order, late, until the process is dead.
func (l *link) delay(inner watch.Interface) watch.Interface {
	type item struct {
		event watch.Event
		due   time.Time
	}
	out := make(chan watch.Event)
	proxy := watch.NewProxyWatcher(out)
	var queue []item
	var mu sync.Mutex
	wake := make(chan struct{}, 1)
	go func() {
		for event := range inner.ResultChan() {
			l.mu.Lock()
			due := time.Now().Add(time.Duration(l.random.Int64N(int64(l.lag) + 1)))
			l.mu.Unlock()
			mu.Lock()
			queue = append(queue, item{event, due})
			mu.Unlock()
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}()
	go func() {
		defer inner.Stop()
		for {
			mu.Lock()
			var next *item
			if len(queue) > 0 {
				next = &queue[0]
				queue = queue[1:]
			}
			mu.Unlock()
			if next == nil {
				select {
				case <-wake:
					continue
				case <-proxy.StopChan():
					return
				case <-l.dead:
					return
				}
			}
			select {
			case <-time.After(time.Until(next.due)):
			case <-proxy.StopChan():
				return
			}
			select {
			case out <- next.event:
			case <-proxy.StopChan():
				return
			}
		}
	}()
	return proxy
}
