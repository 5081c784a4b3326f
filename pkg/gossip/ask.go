package gossip

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// askAgain is how long a question waits for its answer before it is sent again, askFor how long in all.
	askAgain = 150 * time.Millisecond
	askFor   = 2500 * time.Millisecond
	// apiTimeout bounds one attempt at the API server.
	apiTimeout = time.Second
)

// Kinds of messages: two questions and their answers, and what a speaker sends itself.
const (
	kindPing   = "ping"
	kindPong   = "pong"
	kindAsk    = "ask" // does the API server answer you?
	kindHasAPI = "hasAPI"
	kindNoAPI  = "noAPI"
	kindEcho   = "echo"
)

// message is what members send each other besides memberlist's own. Only members can read and write it: it is encrypted.
type message struct {
	Kind  string         `json:"kind"`
	Nonce uint64         `json:"nonce"` // of the question
	From  string         `json:"from"`
	At    netip.AddrPort `json:"at"` // where answers go
	// Spared, with kindNoAPI: see State.
	Spared string `json:"spared,omitempty"`
}

// question is one that waits for its answer.
type question struct {
	nonce    uint64
	peer     string
	at       netip.AddrPort
	sent     time.Duration
	answered chan struct{}
}

func (q *question) isAnswered() bool {
	select {
	case <-q.answered:
		return true
	default:
		return false
	}
}

// expect makes a question.
func (s *session) expect(peer string, at netip.AddrPort) *question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expectOf(peer, at)
}

// expectOf is expect with Gossip.mu held.
func (s *session) expectOf(peer string, at netip.AddrPort) *question {
	q := &question{nonce: rand.Uint64(), peer: peer, at: at, sent: s.config.Clock(), answered: make(chan struct{})}
	s.expected[q.nonce] = q
	return q
}

func (s *session) forget(q *question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.expected, q.nonce)
}

// send sends once. What cannot be sent is as good as lost.
func (s *session) send(name string, to netip.AddrPort, m message) {
	m.From, m.At = s.config.Node, s.at
	text, err := json.Marshal(m)
	if err != nil {
		return // a message of strings and numbers
	}
	_ = s.list.SendBestEffort(&memberlist.Node{Name: name, Addr: to.Addr().AsSlice(), Port: to.Port()}, text)
}

// ask asks every living peer that is not being asked already.
func (s *session) ask() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if p.state.Alive && !s.desk.asking[p.name] {
			s.desk.asking[p.name] = true
			name, at := p.name, p.at
			s.start(func() { s.askPeer(name, at) })
		}
	}
}

func (s *session) askPeer(name string, at netip.AddrPort) {
	ctx, cancel := context.WithTimeout(s.ctx, askFor)
	defer cancel()
	q := s.expect(name, at)
	defer s.forget(q)
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for waiting := true; waiting; {
		s.send(name, at, message{Kind: kindAsk, Nonce: q.nonce})
		select {
		case <-ctx.Done():
			waiting = false
		case <-q.answered:
			waiting = false
		case <-again.C:
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.desk.asking, name)
}

// messages are memberlist's callbacks for the members' own messages.
type messages session

// NotifyMsg takes a message.
func (d *messages) NotifyMsg(text []byte) {
	var m message
	if json.Unmarshal(text, &m) != nil || !m.At.IsValid() {
		return // of another version
	}
	s := (*session)(d)
	select {
	case <-s.ready:
	default:
		return // who asked will ask again
	}
	switch m.Kind {
	case kindPing:
		s.send(m.From, m.At, message{Kind: kindPong, Nonce: m.Nonce})
	case kindAsk:
		s.asked(m)
	case kindPong, kindHasAPI, kindNoAPI:
		s.answer(m)
	case kindEcho:
		s.echo(m)
	}
}

// answer gives an answer to who waits for it.
func (s *session) answer(m message) {
	s.mu.Lock()
	q, p := s.expected[m.Nonce], s.peers[m.From]
	if q == nil || p == nil || q.peer != m.From {
		s.mu.Unlock()
		return
	}
	delete(s.expected, m.Nonce)
	close(q.answered)
	if m.Kind == kindPong {
		if p.state.Alive { // else how long it was away: what waited for its link-layer address is sent when it is back
			s.patience.observe(s.config.Clock() - q.sent)
		}
		s.heard(p, q)
	}
	changed := m.Kind != kindPong && q.sent > p.state.Said
	if changed {
		p.state.HasAPI, p.state.Said, p.state.Spared = m.Kind == kindHasAPI, q.sent, m.Spared
	}
	s.mu.Unlock()
	if changed {
		s.config.Notify()
	}
}

// echo takes what this speaker sent itself.
func (s *session) echo(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := s.expected[m.Nonce]; q != nil && q.peer == s.config.Node {
		delete(s.expected, m.Nonce)
		close(q.answered)
	}
}

// NodeMeta, GetBroadcasts, LocalState and MergeRemoteState: members have nothing else to tell.
func (*messages) NodeMeta(int) []byte             { return nil }
func (*messages) GetBroadcasts(_, _ int) [][]byte { return nil }
func (*messages) LocalState(bool) []byte          { return nil }
func (*messages) MergeRemoteState([]byte, bool)   {}
