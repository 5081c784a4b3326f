package gossip

import "context"

// desk is where peers' questions after the API server wait, and where it is known who is being asked. Gossip.mu is its lock.
type desk struct {
	asking  map[string]bool    // peers that have not answered yet
	waiting map[string]message // the last question of each peer, for the next attempt
	trying  map[string]message // those that the attempt under way is for; nil if none is
	told    map[string]message // the last answer to each peer
}

func newDesk() desk {
	return desk{asking: map[string]bool{}, waiting: map[string]message{}, told: map[string]message{}}
}

// asked takes a question. Those that come during an attempt at the API server wait for the next one, since an answer must be
// later than its question; many peers' questions cost one attempt.
func (s *session) asked(m message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if told := s.desk.told[m.From]; told.Nonce == m.Nonce {
		s.start(func() { s.send(m.From, m.At, told) }) // the answer was lost
		return
	}
	if s.desk.trying[m.From].Nonce == m.Nonce {
		return
	}
	s.desk.waiting[m.From] = m
	if s.desk.trying == nil {
		s.desk.trying = map[string]message{}
		s.start(s.try)
	}
}

// try tries the API server for those who wait until nobody does.
func (s *session) try() {
	for {
		s.mu.Lock()
		asking := s.desk.waiting
		s.desk.waiting, s.desk.trying = map[string]message{}, asking
		if len(asking) == 0 {
			s.desk.trying = nil
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		ctx, cancel := context.WithTimeout(s.ctx, apiTimeout)
		kind := kindNoAPI
		if s.config.HasAPI(ctx) {
			kind = kindHasAPI
		}
		cancel()
		for from, m := range asking {
			answer := message{Kind: kind, Nonce: m.Nonce}
			if kind == kindNoAPI {
				answer.Spared = s.config.Spares(from)
			}
			s.mu.Lock()
			s.desk.told[from] = answer
			s.mu.Unlock()
			s.send(from, m.At, answer)
		}
	}
}
