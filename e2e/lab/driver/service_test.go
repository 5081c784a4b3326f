package driver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// fakeProcess runs until end or a signal that ends it.
type fakeProcess struct {
	pid     int
	once    sync.Once
	ended   chan struct{}
	status  int
	signals []syscall.Signal
}

func (p *fakeProcess) PID() int { return p.pid }

func (p *fakeProcess) Signal(s syscall.Signal) error {
	p.signals = append(p.signals, s)
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		p.end(128 + int(s))
	}
	return nil
}

func (p *fakeProcess) Wait() (int, error) { <-p.ended; return p.status, nil }

func (p *fakeProcess) end(status int) { p.once.Do(func() { p.status = status; close(p.ended) }) }

// fakes starts fake processes and remembers them.
type fakes struct {
	mu      sync.Mutex
	started []*fakeProcess
	err     error
}

func (f *fakes) start(_ context.Context, _ machine.Command, stdio wire.Stdio) (wire.Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	p := &fakeProcess{pid: len(f.started) + 1, ended: make(chan struct{})}
	f.started = append(f.started, p)
	_, err := stdio.Out.Write([]byte("hello\n"))
	return p, err
}

func (f *fakes) last() *fakeProcess {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.started[len(f.started)-1]
}

func (f *fakes) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.started)
}

func wantStatus(t *testing.T, s *service, state string, pid, restarts int) {
	t.Helper()
	if gotState, gotPID, gotRestarts := s.status(); gotState != state || gotPID != pid || gotRestarts != restarts {
		t.Errorf("%s, pid %d, %d restarts; want %s, %d, %d", gotState, gotPID, gotRestarts, state, pid, restarts)
	}
}

func TestServiceThatEndsIsStartedAgain(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{}
		s := newService("daemon", log, f.start, machine.Command{})
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
		if err := s.awaitOutput(t.Context()); err != nil {
			t.Error(err)
		}
		wantStatus(t, s, running, 1, 0)
		f.last().end(3)
		synctest.Wait()
		wantStatus(t, s, restarting, 0, 0)
		time.Sleep(firstRestart + time.Millisecond)
		wantStatus(t, s, running, 2, 1)
		f.last().end(3)
		time.Sleep(firstRestart + time.Millisecond)
		wantStatus(t, s, restarting, 0, 1)
		time.Sleep(firstRestart)
		wantStatus(t, s, running, 3, 2)
		s.stop(syscall.SIGKILL, time.Second)
		wantStatus(t, s, stopped, 0, 2)
		time.Sleep(time.Hour)
		if f.count() != 3 {
			t.Errorf("%d processes were started, the last after the service was stopped", f.count())
		}
	})
	text, err := os.ReadFile(log)
	if err != nil || strings.Count(string(text), "hello\n") != 3 || !strings.Contains(string(text), "ended with status 3") {
		t.Errorf("log %q, %v", text, err)
	}
}

func TestServiceIsFrozenThawedStoppedAndStarted(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{}
		s := newService("daemon", log, f.start, machine.Command{})
		if err := s.thaw(); err == nil {
			t.Error("a service that does not run was thawed")
		}
		for range 2 {
			if err := errors.Join(s.run(), s.freeze(), s.freeze()); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, s, frozen, f.last().pid, 0)
			if err := errors.Join(s.thaw(), s.thaw()); err != nil {
				t.Fatal(err)
			}
			s.stop(syscall.SIGTERM, time.Second)
			s.stop(syscall.SIGTERM, time.Second)
			wantStatus(t, s, stopped, 0, 0)
		}
		if f.count() != 2 {
			t.Errorf("%d processes were started, want 2", f.count())
		}
	})
}

func TestServiceStoppedWhileItWaitsToStartAgain(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{}
		s := newService("daemon", log, f.start, machine.Command{})
		if err := s.run(); err != nil {
			t.Fatal(err)
		}
		f.last().end(1)
		synctest.Wait()
		s.stop(syscall.SIGKILL, time.Second)
		time.Sleep(time.Minute)
		wantStatus(t, s, stopped, 0, 0)
		if f.count() != 1 {
			t.Errorf("%d processes were started, want 1", f.count())
		}
	})
}

func TestServiceThatCannotStart(t *testing.T) {
	f := &fakes{err: errors.New("no such program")}
	s := newService("daemon", filepath.Join(t.TempDir(), "log"), f.start, machine.Command{})
	if err := s.run(); err == nil || !strings.Contains(err.Error(), "daemon") {
		t.Errorf("got %v", err)
	}
	wantStatus(t, s, stopped, 0, 0)
}
