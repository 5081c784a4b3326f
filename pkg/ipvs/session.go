package ipvs

import (
	"fmt"
	"time"

	"github.com/moby/ipvs"
)

// handle is what we use of *ipvs.Handle, one netlink socket.
type handle interface {
	NewService(*ipvs.Service) error
	UpdateService(*ipvs.Service) error
	DelService(*ipvs.Service) error
	GetService(*ipvs.Service) (*ipvs.Service, error)
	GetServices() ([]*ipvs.Service, error)
	NewDestination(*ipvs.Service, *ipvs.Destination) error
	UpdateDestination(*ipvs.Service, *ipvs.Destination) error
	DelDestination(*ipvs.Service, *ipvs.Destination) error
	GetDestinations(*ipvs.Service) ([]*ipvs.Destination, error)
	Close()
}

// session is a handle with the one goroutine that uses it. A handle that two goroutines share hangs for good: each reads
// the other's answer and drops it as not its own.
type session struct {
	handle handle
	calls  chan func(handle)
}

func newSession(h handle) *session {
	s := &session{handle: h, calls: make(chan func(handle))}
	go func() {
		for call := range s.calls {
			call(h)
		}
	}()
	return s
}

// run calls f on the session's goroutine and waits for it, for at most the deadline. After ErrDeadline the session is of
// no more use: its socket is closed, which ends the call that hangs, and its goroutine ends after that call.
func (s *session) run(deadline time.Duration, f func(handle) error) error {
	done := make(chan error, 1)
	s.calls <- func(h handle) { done <- f(h) }
	timer := time.NewTimer(deadline)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		s.close()
		return fmt.Errorf("%w (%s)", ErrDeadline, deadline)
	}
}

// close closes the socket and ends the goroutine.
func (s *session) close() {
	close(s.calls)
	s.handle.Close()
}
