package driver

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// States of a service.
const (
	running    = "running"
	frozen     = "frozen"
	restarting = "restarting"
	stopped    = "stopped"
)

// Restart delays, as a kubelet's but shorter: a test has no minutes to wait.
const (
	firstRestart = time.Second
	lastRestart  = 10 * time.Second
	// steady is how long a process has to run for the next delay to be the first again.
	steady = 10 * time.Second
)

// starter starts a command where the service runs.
type starter func(ctx context.Context, command machine.Command, stdio wire.Stdio) (wire.Process, error)

// service is a background process with a log. One that ends by itself is started again, as a kubelet does; one that was
// stopped stays away.
type service struct {
	name    string
	command machine.Command
	log     string
	start   starter
	spoke   chan struct{}

	mu       sync.Mutex
	state    string
	process  wire.Process
	restarts int
	cancel   context.CancelFunc
	done     chan struct{}
}

func newService(name, log string, start starter, command machine.Command) *service {
	return &service{name: name, log: log, start: start, command: command, state: stopped}
}

// run starts the service, unless it runs.
func (s *service) run() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stopped {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.spoke = make(chan struct{})
	process, err := s.launch(ctx)
	if err != nil {
		cancel()
		return fmt.Errorf("start %s: %w", s.name, err)
	}
	s.state, s.process, s.cancel, s.done = running, process, cancel, make(chan struct{})
	go s.supervise(ctx, process, s.done)
	return nil
}

// launch starts one process, whose output goes to the end of the log.
func (s *service) launch(ctx context.Context) (wire.Process, error) {
	file, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	out := &logWriter{file: file, spoke: s.spoke}
	process, err := s.start(ctx, s.command, wire.Stdio{Out: out, Err: out})
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	go func() {
		// Ends with the process, whose output has all come then.
		_, _ = process.Wait()
		_ = file.Close()
	}()
	return process, nil
}

// supervise starts the process again when it ends, until ctx does.
func (s *service) supervise(ctx context.Context, process wire.Process, done chan struct{}) {
	defer close(done)
	delay := firstRestart
	for {
		began := time.Now()
		status, err := process.Wait()
		if s.isStopped() {
			return
		}
		if time.Since(began) > steady {
			delay = firstRestart
		}
		s.note("ended with status %d (%v), starting again in %s", status, err, delay)
		for {
			s.set(restarting, nil)
			select {
			case <-ctx.Done():
				return
			case <-time.After(delay):
			}
			delay = min(2*delay, lastRestart)
			if process, err = s.launch(ctx); err == nil {
				break
			}
			s.note("cannot start: %v", err)
		}
		if !s.adopt(process) {
			return
		}
	}
}

// adopt takes a new process, or ends it if the service was stopped meanwhile.
func (s *service) adopt(process wire.Process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stopped {
		_ = process.Signal(syscall.SIGKILL)
		return false
	}
	s.state, s.process = running, process
	s.restarts++
	return true
}

func (s *service) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stopped
}

func (s *service) set(state string, process wire.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stopped {
		s.state, s.process = state, process
	}
}

// note writes a line of the lab's own into the log.
func (s *service) note(format string, args ...any) {
	file, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return
	}
	defer func() { _ = file.Close() }()
	_, _ = fmt.Fprintf(file, "lab: %s %s: %s\n", time.Now().Format(time.StampMilli), s.name, fmt.Sprintf(format, args...))
}

// stop ends the service by a signal and waits for its end; it is killed if that takes longer than grace.
func (s *service) stop(signal syscall.Signal, grace time.Duration) {
	s.mu.Lock()
	if s.state == stopped {
		s.mu.Unlock()
		return
	}
	process, done, cancel := s.process, s.done, s.cancel
	s.state, s.process = stopped, nil
	s.mu.Unlock()
	s.note("stopped by signal %d", signal)
	if process == nil {
		cancel()
		<-done
		return
	}
	// A signal fails only where there is nothing left to end.
	_ = process.Signal(signal)
	ended := make(chan struct{})
	go func() { defer close(ended); _, _ = process.Wait() }()
	select {
	case <-ended:
	case <-time.After(grace):
		_ = process.Signal(syscall.SIGKILL)
		select {
		case <-ended:
		case <-time.After(grace):
			// Its machine does not answer any more; cancel hangs up.
		}
	}
	cancel()
	<-done
}

// freeze stops the process without its knowing, thaw lets it go on.
func (s *service) freeze() error { return s.switchState(running, frozen, syscall.SIGSTOP) }
func (s *service) thaw() error   { return s.switchState(frozen, running, syscall.SIGCONT) }

func (s *service) switchState(from, to string, signal syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == to {
		return nil
	}
	if s.state != from {
		return fmt.Errorf("%s is %s, not %s", s.name, s.state, from)
	}
	if err := s.process.Signal(signal); err != nil {
		return fmt.Errorf("signal %s: %w", s.name, err)
	}
	s.state = to
	return nil
}

// status is what is known of it; pid is 0 if it does not run.
func (s *service) status() (state string, pid, restarts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		pid = s.process.PID()
	}
	return s.state, pid, s.restarts
}

// awaitOutput waits until the service has written something.
func (s *service) awaitOutput(ctx context.Context) error {
	s.mu.Lock()
	spoke := s.spoke
	s.mu.Unlock()
	select {
	case <-spoke:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s says nothing (log: %s): %w", s.name, s.log, ctx.Err())
	}
}

// logWriter appends to a log and tells of the first output.
type logWriter struct {
	file  *os.File
	once  sync.Once
	spoke chan struct{}
}

func (w *logWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.once.Do(func() {
		select {
		case <-w.spoke:
		default:
			close(w.spoke)
		}
	})
	return n, err
}
