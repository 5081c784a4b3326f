// Package netnstest gives a kernel test network namespaces of its own, so that it changes nothing on the machine it runs
// on, and wires them together.
//
// It owns the namespaces it makes; they end with the test. It never touches the one the test process started in. It is
// for tests only.
package netnstest

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Variable is the environment variable that, set to 1, makes kernel tests run. What they need must then be there: a
// missing feature fails them.
const Variable = "FAIRLEAD_KERNEL_TESTS"

// Require skips the test unless kernel tests are to run.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv(Variable) != "1" {
		t.Skip("needs root and a kernel with ip_vs: run by make test-kernel")
	}
}

// Enter moves the calling test into a fresh namespace for the rest of its life. A subtest runs on another goroutine and
// has to enter one of its own.
func Enter(t testing.TB) {
	t.Helper()
	Require(t)
	if err := fresh(); err != nil {
		t.Fatal(err)
	}
}

// fresh locks the goroutine to its thread and gives that a namespace. The thread is never unlocked: it ends with the
// goroutine, so that no other one ever runs in the namespace by accident.
func fresh() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace (needs root): %w", err)
	}
	if err := setUp("lo"); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

func setUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// Space is a network namespace: a host of the test's network.
type Space struct {
	t      testing.TB
	handle netns.NsHandle
}

// New makes a namespace with lo up.
func New(t testing.TB) *Space {
	t.Helper()
	Require(t)
	s := &Space{t: t}
	elsewhere(func() error {
		if err := fresh(); err != nil {
			return err
		}
		var err error
		s.handle, err = netns.Get()
		return err
	}, t)
	t.Cleanup(func() {
		if err := s.handle.Close(); err != nil {
			t.Errorf("close a network namespace: %v", err)
		}
	})
	return s
}

// elsewhere runs f on a goroutine whose thread is thrown away, and fails the test with its error.
func elsewhere(f func() error, t testing.TB) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		defer close(done) // even if f ends the goroutine
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Do runs f in the namespace and fails the test with its error. What f opens keeps working elsewhere; goroutines that it
// starts are not in the namespace: use Go.
func (s *Space) Do(f func() error) {
	s.t.Helper()
	elsewhere(func() error {
		if err := netns.Set(s.handle); err != nil {
			return err
		}
		return f()
	}, s.t)
}

// Try is Do that returns the error.
func (s *Space) Try(f func() error) (err error) {
	s.Do(func() error {
		err = f()
		return nil
	})
	return err
}

// Go runs f in the namespace on a goroutine of its own. The test does not end before f returns: f must end when the test's
// context does, or be told so otherwise.
func (s *Space) Go(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if err := netns.Set(s.handle); err != nil {
			s.t.Errorf("enter a network namespace: %v", err)
			return
		}
		f()
	}()
	s.t.Cleanup(func() { <-done })
}
