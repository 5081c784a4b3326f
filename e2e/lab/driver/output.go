package driver

import (
	"bytes"
	"strings"
	"sync"
)

// maxOutput is how much of a command's output is kept.
const maxOutput = 1 << 20

// limited is a buffer that forgets what comes after its limit.
type limited struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buffer.Write(p[:min(len(p), max(maxOutput-l.buffer.Len(), 0))])
	return len(p), nil
}

func (l *limited) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

// line is the text on one line.
func (l *limited) line() string { return strings.Join(strings.Fields(l.String()), " ") }
