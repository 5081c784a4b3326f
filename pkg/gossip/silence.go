package gossip

import "time"

const (
	// listenEvery is how often the time is looked at when all questions are sent.
	listenEvery = 25 * time.Millisecond
	// wakeful is the most that counts of the time between two looks: a process that was stopped, or had no processor, finds
	// that the time is over with answers still unread.
	wakeful = 2 * listenEvery
	// echoAgain is when an echo is sent again: it may be lost.
	echoAgain = 100 * time.Millisecond
	// deafFor is how long a probe waits for an echo.
	deafFor = 2 * time.Second
)

// silence is for how long a peer did not answer that is being probed. Only that counts of it which an echo confirmed, a message
// of this speaker to itself: it waits for what answers wait for, the kernel's queue of packets and a processor for this process,
// and what came before it has been read by the time that it is read.
type silence struct {
	s              *session
	passed, looked time.Duration
	confirmed      time.Duration // of what passed
	echo           *question     // nil if none is under way
	at             time.Duration // what had passed when the echo under way, or else the last one, was sent
	again          time.Duration // when it is sent again
	deaf           bool
}

func (s *session) silence() *silence { return &silence{s: s, looked: s.config.Clock()} }

// begin begins anew.
func (q *silence) begin() {
	q.end()
	*q = *q.s.silence()
}

// end forgets the echo.
func (q *silence) end() {
	if q.echo != nil {
		q.s.forget(q.echo)
		q.echo = nil
	}
}

// look looks at the time, returns how much has passed since the last look, and sends an echo if it is time to.
func (q *silence) look() (since time.Duration) {
	now := q.s.config.Clock()
	since, q.looked = now-q.looked, now
	q.passed += min(since, wakeful)
	switch {
	case q.echo == nil && q.passed-q.at >= listenEvery/2:
		q.echo, q.at = q.s.expect(q.s.config.Node, q.s.at), q.passed
	case q.echo == nil || now < q.again:
		return since
	}
	q.again = now + echoAgain
	q.s.send(q.s.config.Node, q.s.at, message{Kind: kindEcho, Nonce: q.echo.nonce})
	return since
}

// heard is closed when the echo under way is heard.
func (q *silence) heard() <-chan struct{} {
	if q.echo == nil {
		return nil
	}
	return q.echo.answered
}

// confirm takes note that the echo was heard.
func (q *silence) confirm() { q.confirmed, q.echo = q.at, nil }

// lasted reports whether the peer was silent for that long, or this speaker is deaf: the time is over, and an echo that was sent
// deafFor ago has not been heard.
func (q *silence) lasted(length time.Duration) bool {
	q.deaf = q.echo != nil && q.passed >= length && q.looked-q.echo.sent >= deafFor
	return q.confirmed >= length || q.deaf
}
