package gossip

import (
	"slices"
	"time"
)

// memberlist asks its members in turn, and more slowly where it finds itself slow. The peers that matter, the holders of VIPs, are
// asked besides, all the time, by the few whose task it is to notice that one is gone.
const (
	// watchEvery is how often a watched peer is asked.
	watchEvery = 100 * time.Millisecond
	// watchFor is how long it may be silent, where answers are quick, until it is probed.
	watchFor = 200 * time.Millisecond
	// watchWakeful is the most that counts of the time between two questions: see wakeful.
	watchWakeful = 2 * watchEvery
	// unansweredMost bounds how many questions of a watched peer are remembered.
	unansweredMost = 16
)

// vigil is what the watch knows of a peer. Gossip.mu is its lock.
type vigil struct {
	unanswered []*question   // oldest first
	silence    time.Duration // since the last answer, while questions wait for one
}

// Watch names the peers whose silence is to be noticed soonest, in place of those named before.
func (g *Gossip) Watch(peers []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if slices.Equal(g.watched, peers) {
		return
	}
	g.watched = slices.Clone(peers)
	poke(g.rewatch)
}

// watch asks the watched until the session ends.
func (s *session) watch() {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	looked := s.config.Clock()
	for {
		tick := ticker.C
		if !s.watches() {
			tick = nil
		}
		select {
		case <-s.ctx.Done():
			return
		case <-s.rewatch:
			s.watchAnew()
			looked = s.config.Clock()
		case <-tick:
			now := s.config.Clock()
			s.askWatched(min(now-looked, watchWakeful))
			looked = now
		}
	}
}

// watchAnew forgets what was found out of those that were watched before.
func (s *session) watchAnew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		s.forgetWatched(p)
	}
}

func (s *session) watches() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watched) > 0
}

// askWatched asks each watched peer that is held alive, and begins to probe those that were silent for too long, of which some
// time more has passed now.
func (s *session) askWatched(passed time.Duration) {
	limit := s.patience.stretch(watchFor)
	var due []*question
	s.mu.Lock()
	for _, name := range s.watched {
		p, known := s.peers[name]
		if !known {
			continue
		}
		if !p.state.Alive || p.confirming {
			s.forgetWatched(p)
			continue
		}
		if len(p.watch.unanswered) > 0 {
			p.watch.silence += passed
		}
		if p.watch.silence >= limit {
			s.forgetWatched(p)
			p.doubted = 0 // it was asked gently until now
			s.begin(p)
			continue
		}
		if len(p.watch.unanswered) == unansweredMost {
			delete(s.expected, p.watch.unanswered[0].nonce)
			p.watch.unanswered = p.watch.unanswered[1:]
		}
		q := s.expectOf(p.name, p.at)
		p.watch.unanswered = append(p.watch.unanswered, q)
		due = append(due, q)
	}
	s.mu.Unlock()
	for _, q := range due {
		s.send(q.peer, q.at, message{Kind: kindPing, Nonce: q.nonce})
	}
}

// forgetWatched begins the watch of a peer anew. Gossip.mu is held.
func (s *session) forgetWatched(p *peer) {
	for _, q := range p.watch.unanswered {
		delete(s.expected, q.nonce)
	}
	p.watch = vigil{}
}

// heard notes that a peer answered a question: those before it say nothing any more. Gossip.mu is held.
func (s *session) heard(p *peer, answered *question) {
	p.watch.silence = 0
	p.watch.unanswered = slices.DeleteFunc(p.watch.unanswered, func(q *question) bool {
		if q.sent > answered.sent {
			return false
		}
		delete(s.expected, q.nonce)
		return true
	})
}
