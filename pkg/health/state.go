package health

import (
	"context"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// state is what is known of a target.
type state struct {
	target  model.Target
	verdict Verdict
	judged  bool
	streak  int // checks in a row that contradict the verdict

	due     time.Time          // of the next check
	index   int                // in the queue; unqueued if it is in none
	stop    context.CancelFunc // of the check that is under way
	dropped bool               // nobody wants it any more
}

// judge takes the result of a check and reports whether the verdict changed. The first result decides alone, as in HAProxy: a
// speaker that was restarted would otherwise send connections to every dead backend until it had counted to Fall.
func (s *state) judge(err error) bool {
	failed := err != nil
	if failed && s.verdict.Down {
		s.verdict.Reason = err.Error()
	}
	if failed == s.verdict.Down {
		s.judged, s.streak = true, 0
		return false
	}
	s.streak++
	needed := s.target.Check.Rise
	if failed {
		needed = s.target.Check.Fall
	}
	if s.judged && s.streak < needed {
		return false
	}
	s.judged, s.streak = true, 0
	s.verdict = Verdict{Down: failed}
	if failed {
		s.verdict.Reason = err.Error()
	}
	return true
}

// unqueued is the index of a state that is in no queue.
const unqueued = -1

// queue is a heap (container/heap) of states by the time at which they are due.
type queue []*state

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push is that of heap.Interface.
func (q *queue) Push(x any) {
	s := x.(*state)
	s.index = len(*q)
	*q = append(*q, s)
}

// Pop is that of heap.Interface.
func (q *queue) Pop() any {
	old := *q
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*q, s.index = old[:len(old)-1], unqueued
	return s
}
