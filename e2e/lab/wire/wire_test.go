package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeProcess copies its input to its output until the input ends or a signal comes.
type fakeProcess struct {
	ended   chan int
	signals chan syscall.Signal
}

func startFake(stdio Stdio) (Process, error) {
	p := &fakeProcess{ended: make(chan int, 1), signals: make(chan syscall.Signal, 1)}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		_, _ = io.Copy(stdio.Out, stdio.In)
	}()
	go func() {
		select {
		case <-copied:
			_, _ = io.WriteString(stdio.Err, "done")
			p.ended <- 7
		case s := <-p.signals:
			p.ended <- 128 + int(s)
		}
	}()
	return p, nil
}

func (p *fakeProcess) PID() int { return 42 }

func (p *fakeProcess) Signal(s syscall.Signal) error { p.signals <- s; return nil }

func (p *fakeProcess) Wait() (int, error) { return <-p.ended, nil }

// serveTest serves handlers on a unix socket for as long as the test runs.
func serveTest(t *testing.T, handlers map[string]Handler) Dialer {
	t.Helper()
	return serveOn(t, "unix", filepath.Join(t.TempDir(), "s"), handlers)
}

func serveOn(t *testing.T, network, address string, handlers map[string]Handler) Dialer {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- Serve(ctx, listener, handlers) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, listener.Addr().String())
	}
}

func TestCall(t *testing.T) {
	dial := serveTest(t, map[string]Handler{
		"double": Handle(func(_ context.Context, n int) (int, error) { return 2 * n, nil }),
		"fail":   Handle(func(context.Context, any) (any, error) { return nil, errors.New("no such luck") }),
		"hang":   Handle(func(ctx context.Context, _ any) (any, error) { <-ctx.Done(); return nil, ctx.Err() }),
	})
	var got int
	if err := Call(t.Context(), dial, "double", 21, &got); err != nil || got != 42 {
		t.Errorf("double of 21 is %d, %v", got, err)
	}
	if err := Call(t.Context(), dial, "fail", nil, nil); err == nil || err.Error() != "no such luck" {
		t.Errorf("error of the handler came as %v", err)
	}
	if err := Call(t.Context(), dial, "unheard-of", nil, nil); err == nil || !strings.Contains(err.Error(), "unheard-of") {
		t.Errorf("unknown operation: %v", err)
	}
	if err := Call(t.Context(), dial, "double", "text", nil); err == nil {
		t.Error("arguments of another type were taken")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := Call(ctx, dial, "hang", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call without an answer ended with %v", err)
	}
}

func TestProcessStreamsAndStatus(t *testing.T) {
	dial := serveTest(t, map[string]Handler{"run": runFake})
	in := strings.Repeat("0123456789", chunk/5)
	var out, errs bytes.Buffer
	process, err := Start(t.Context(), dial, "run", nil, Stdio{In: strings.NewReader(in), Out: &out, Err: &errs})
	if err != nil {
		t.Fatal(err)
	}
	status, err := process.Wait()
	if err != nil || status != 7 || process.PID() != 42 {
		t.Errorf("status %d, pid %d, %v; want 7 and 42", status, process.PID(), err)
	}
	if out.String() != in || errs.String() != "done" {
		t.Errorf("%d bytes came back of %d, stderr %q", out.Len(), len(in), errs.String())
	}
}

// talker is a process that says much and ends, whatever its input.
type talker struct{ fakeProcess }

func (*talker) Wait() (int, error) { return 3, nil }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type slow struct{ bytes int }

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	s.bytes += len(p)
	return len(p), nil
}

// TestResultComesAlthoughTheClientHasMoreToSay: what is on its way when the command ends is not lost for that.
func TestResultComesAlthoughTheClientHasMoreToSay(t *testing.T) {
	const size = 8 << 20
	dial := serveOn(t, "tcp", "127.0.0.1:0", map[string]Handler{
		"run": func(_ context.Context, conn *Conn, _ json.RawMessage) (any, error) {
			said := make(chan error, 1)
			value, err := ServeProcess(conn, func(stdio Stdio) (Process, error) {
				go func() { _, err := stdio.Out.Write(make([]byte, size)); said <- err }()
				return &talker{}, nil
			})
			return value, errors.Join(err, <-said)
		},
	})
	out := slow{}
	process, err := Start(t.Context(), dial, "run", nil, Stdio{In: endless{}, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := process.Wait(); status != 3 || err != nil || out.bytes != size {
		t.Errorf("status %d, %v, %d bytes; want 3 and %d", status, err, out.bytes, size)
	}
}

func TestProcessSignal(t *testing.T) {
	dial := serveTest(t, map[string]Handler{"run": runFake})
	blocked, _ := io.Pipe()
	process, err := Start(t.Context(), dial, "run", nil, Stdio{In: blocked})
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if status, err := process.Wait(); err != nil || status != 129 {
		t.Errorf("status %d, %v; want 129", status, err)
	}
}

func TestClientThatGoesAwayTerminatesItsProcess(t *testing.T) {
	ended := make(chan int, 1)
	dial := serveTest(t, map[string]Handler{
		"run": func(_ context.Context, conn *Conn, _ json.RawMessage) (any, error) {
			value, err := ServeProcess(conn, startFake)
			if exit, ok := value.(exited); ok {
				ended <- exit.Status
			}
			return value, err
		},
	})
	blocked, _ := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	process, err := Start(ctx, dial, "run", nil, Stdio{In: blocked})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := process.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("the client's side ended with %v", err)
	}
	select {
	case status := <-ended:
		if status != 128+int(syscall.SIGTERM) && status != 7 {
			t.Errorf("status %d", status)
		}
	case <-time.After(10 * time.Second):
		t.Error("the command runs on without its client")
	}
}

func TestProcessThatCannotStart(t *testing.T) {
	dial := serveTest(t, map[string]Handler{
		"run": func(_ context.Context, conn *Conn, _ json.RawMessage) (any, error) {
			return ServeProcess(conn, func(Stdio) (Process, error) { return nil, errors.New("no such program") })
		},
	})
	if _, err := Start(t.Context(), dial, "run", nil, Stdio{}); err == nil || err.Error() != "no such program" {
		t.Errorf("got %v", err)
	}
}

func runFake(_ context.Context, conn *Conn, _ json.RawMessage) (any, error) {
	return ServeProcess(conn, startFake)
}

func TestFrameOfAnotherProtocolIsRefused(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	go func() { _, _ = client.Write([]byte("GET / HTTP/1.1\r\n\r\n")) }()
	if _, _, err := NewConn(server).Recv(); err == nil {
		t.Error("a frame of a gigabyte was taken")
	}
}
