// Package wire is the lab's one protocol: a request a connection, framed, over TCP to the agent and over a unix socket to
// the driver. It owns the frames and the running of a command over them; it knows nothing of hosts, clusters or faults.
//
// A frame is one byte of kind, four bytes of length (big endian) and the payload. The client sends a call; the server
// answers with a result. A call that runs a command exchanges frames of streams and signals in between.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Kind says what a frame carries.
type Kind byte

// The kinds of frames.
const (
	KindCall     Kind = 'c' // client: JSON call
	KindStdin    Kind = 'i' // client: bytes for the command
	KindStdinEnd Kind = 'e' // client: no more of them
	KindSignal   Kind = 's' // client: one byte, a signal's number
	KindStarted  Kind = 'p' // server: JSON started
	KindStdout   Kind = 'o' // server: bytes of the command
	KindStderr   Kind = 'r' // server: bytes of the command
	KindResult   Kind = 'x' // server: JSON result, the last frame
)

// maxFrame bounds what a peer can make us allocate; streams are cut into far smaller frames.
const maxFrame = 16 << 20

// chunk is the largest payload of a stream frame.
const chunk = 64 << 10

// Conn sends and receives frames. Send may be called from several goroutines, Recv from one.
type Conn struct {
	raw   net.Conn
	write sync.Mutex
}

// NewConn wraps a connection.
func NewConn(raw net.Conn) *Conn { return &Conn{raw: raw} }

// Close closes the connection; Recv on both sides ends.
func (c *Conn) Close() {
	// Nothing is buffered that could be lost by a failure.
	_ = c.raw.Close()
}

// finishGrace is how long a client has to hang up that got its result.
const finishGrace = 3 * time.Second

// finish waits until the client, which has been sent all, hangs up. To close while something that it sent is unread makes the
// kernel send a reset, and drop what is not on its way yet.
func (c *Conn) finish() {
	half, ok := c.raw.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.raw.SetReadDeadline(time.Now().Add(finishGrace)) != nil {
		return
	}
	_, _ = io.Copy(io.Discard, c.raw) // whatever ends it, the connection is of no more use
}

// Send writes one frame.
func (c *Conn) Send(kind Kind, payload []byte) error {
	frame := make([]byte, 5, 5+len(payload))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	frame = append(frame, payload...)
	c.write.Lock()
	defer c.write.Unlock()
	_, err := c.raw.Write(frame)
	return err
}

// Recv reads one frame.
func (c *Conn) Recv() (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.raw, head[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes is larger than %d: the peer speaks another protocol", size, maxFrame)
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(c.raw, payload); err != nil {
		return 0, nil, err
	}
	return Kind(head[0]), payload, nil
}

// stream is an io.Writer whose bytes become frames of one kind.
type stream struct {
	conn *Conn
	kind Kind
	// open, if it is not nil, holds writes back until it is closed.
	open <-chan struct{}
}

func (s stream) Write(p []byte) (int, error) {
	if s.open != nil {
		<-s.open
	}
	for sent := 0; sent < len(p); {
		n := min(len(p)-sent, chunk)
		if err := s.conn.Send(s.kind, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return len(p), nil
}
