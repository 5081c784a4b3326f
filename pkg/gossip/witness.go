package gossip

import "time"

const (
	// witnessesMost bounds how many others are asked whether it is this node that nobody hears.
	witnessesMost = 8
	// witnessEvery is how often each is asked until it answers.
	witnessEvery = 100 * time.Millisecond
)

// witnesses asks others for a sign of life while a peer is probed that is held alive. The function that it returns ends that, and
// says whether most were silent: then it may well be this node that nobody hears.
func (s *session) witnesses(probed string) (alone func() bool) {
	questions := s.askable(probed)
	ask := func() (silent int) {
		for _, q := range questions {
			if !q.isAnswered() {
				silent++
				s.send(q.peer, q.at, message{Kind: kindPing, Nonce: q.nonce})
			}
		}
		return silent
	}
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(witnessEvery)
		defer ticker.Stop()
		for ask() > 0 {
			select {
			case <-ended:
				return
			case <-ticker.C:
			}
		}
	}()
	return func() bool {
		close(ended)
		<-done
		silent := 0
		for _, q := range questions {
			if !q.isAnswered() {
				silent++
			}
			s.forget(q)
		}
		return 2*silent > len(questions)
	}
}

// askable makes a question for each witness.
func (s *session) askable(probed string) (questions []*question) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, known := s.peers[probed]; !known || !p.state.Alive {
		return nil
	}
	for name, p := range s.peers { // in random order
		if name != probed && p.state.Alive && len(questions) < witnessesMost {
			questions = append(questions, s.expectOf(p.name, p.at))
		}
	}
	return questions
}
