package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// hangupGrace is how long a command whose client went away has to end after SIGTERM before it is killed.
const hangupGrace = 3 * time.Second

// Stdio are the streams of a command; nil ones are empty.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Process is a running command, here or at the other end of a connection.
type Process interface {
	// PID is the process id on the machine that runs it.
	PID() int
	// Signal sends it a signal.
	Signal(signal syscall.Signal) error
	// Wait waits for its end. The status is the exit status, or 128+n after death by signal n.
	Wait() (status int, err error)
}

type started struct {
	PID int `json:"pid"`
}

type exited struct {
	Status int `json:"status"`
}

// ServeProcess runs what start starts with its streams over conn: the server's half. When the client goes away the
// command gets SIGTERM, and SIGKILL three seconds later. What it returns is the handler's result.
func ServeProcess(conn *Conn, start func(Stdio) (Process, error)) (any, error) {
	in := newQueue()
	defer in.close()
	// Output comes after the frame that says that the command runs.
	open := make(chan struct{})
	process, err := start(Stdio{In: in, Out: stream{conn, KindStdout, open}, Err: stream{conn, KindStderr, open}})
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	// Ends when the server closes the connection, which it does once the result is sent.
	go serveInput(conn, process, in, done)
	// A client that is gone is noticed by the reader, which ends the command.
	_ = conn.Send(KindStarted, fmt.Appendf(nil, `{"pid":%d}`, process.PID()))
	close(open)
	status, err := process.Wait()
	close(done)
	if err != nil {
		return nil, err
	}
	return exited{Status: status}, nil
}

// serveInput carries the client's frames to the command until the connection ends.
func serveInput(conn *Conn, process Process, in *queue, done <-chan struct{}) {
	for {
		kind, payload, err := conn.Recv()
		if err != nil {
			break
		}
		switch kind {
		case KindStdin:
			in.push(payload)
		case KindStdinEnd:
			in.close()
		case KindSignal:
			if len(payload) == 1 {
				// It fails only if the command has ended, which the client hears anyway.
				_ = process.Signal(syscall.Signal(payload[0]))
			}
		default:
			// A newer client's; there is nothing it could mean here.
		}
	}
	in.close()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-done:
			return
		default:
		}
		_ = process.Signal(signal)
		select {
		case <-done:
			return
		case <-time.After(hangupGrace):
		}
	}
}

// remote is a Process at the other end of a connection.
type remote struct {
	conn   *Conn
	pid    int
	ended  chan struct{}
	status int
	err    error
}

// Start runs a command by the call op: the client's half. Cancelling ctx hangs up, which ends the command.
func Start(ctx context.Context, dial Dialer, op string, args any, stdio Stdio) (Process, error) {
	conn, err := open(ctx, dial, op, args)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	kind, payload, err := conn.Recv()
	if err == nil && kind == KindResult {
		err = decodeResult(payload, nil)
		if err == nil {
			err = errors.New("the command ended before it started")
		}
	} else if err != nil {
		err = fmt.Errorf("%s: connection lost: %w", op, err)
	}
	var s started
	if err == nil {
		err = json.Unmarshal(payload, &s)
	}
	if err != nil {
		stop()
		conn.Close()
		return nil, err
	}
	r := &remote{conn: conn, pid: s.PID, ended: make(chan struct{})}
	if stdio.In != nil {
		// Ends with the command: a read that blocks then (a terminal's) is abandoned with it.
		go r.sendInput(stdio.In)
	} else {
		_ = conn.Send(KindStdinEnd, nil)
	}
	go func() {
		defer close(r.ended)
		defer stop()
		defer conn.Close()
		r.status, r.err = r.receive(stdio)
		if r.err != nil && ctx.Err() != nil {
			r.err = ctx.Err()
		}
	}()
	return r, nil
}

func (r *remote) sendInput(in io.Reader) {
	// An error means that the command has ended or that its input has: in both cases there is no more to send.
	_, _ = io.Copy(stream{conn: r.conn, kind: KindStdin}, in)
	_ = r.conn.Send(KindStdinEnd, nil)
}

func (r *remote) receive(stdio Stdio) (int, error) {
	for {
		kind, payload, err := r.conn.Recv()
		if err != nil {
			return 0, fmt.Errorf("connection to the command lost: %w", err)
		}
		switch kind {
		case KindStdout:
			err = writeTo(stdio.Out, payload)
		case KindStderr:
			err = writeTo(stdio.Err, payload)
		case KindResult:
			var e exited
			if err := decodeResult(payload, &e); err != nil {
				return 0, err
			}
			return e.Status, nil
		default:
			// A newer server's; there is nothing it could mean here.
		}
		if err != nil {
			return 0, fmt.Errorf("write the command's output: %w", err)
		}
	}
}

func writeTo(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(p)
	return err
}

func (r *remote) PID() int { return r.pid }

func (r *remote) Signal(signal syscall.Signal) error {
	return r.conn.Send(KindSignal, []byte{byte(signal)})
}

func (r *remote) Wait() (int, error) {
	<-r.ended
	return r.status, r.err
}
