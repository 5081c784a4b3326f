package announce

import (
	"container/heap"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// entry is a binding with the time of its next announcement.
type entry struct {
	binding model.Binding
	at      time.Time
	sent    int // announcements of this burst
	index   int // in the heap

	defended, repeated time.Time // last
	answers            bool      // the next announcement is one of those
}

// schedule says which binding is announced next. It is a heap by time, so that thousands of VIPs cost one timer.
type schedule struct {
	entries map[model.Binding]*entry
	queue   queue
}

// atOnce comes before all that is overdue: where there is not the time to repeat hundreds of announcements, a first one does not
// wait for that.
var atOnce = time.Unix(0, 0)

func newSchedule() schedule { return schedule{entries: map[model.Binding]*entry{}} }

// set makes the bindings the scheduled ones: new ones are due at once. It returns those that are scheduled no more, and the
// new ones.
func (s *schedule) set(bindings []model.Binding) (removed, added []model.Binding) {
	wanted := make(map[model.Binding]bool, len(bindings))
	for _, b := range bindings {
		wanted[b] = true
	}
	for b, e := range s.entries {
		if !wanted[b] {
			heap.Remove(&s.queue, e.index)
			delete(s.entries, b)
			removed = append(removed, b)
		}
	}
	for _, b := range bindings {
		if s.entries[b] == nil {
			e := &entry{binding: b, at: atOnce}
			s.entries[b] = e
			heap.Push(&s.queue, e)
			added = append(added, b)
		}
	}
	return removed, added
}

// due returns a binding whose time has come.
func (s *schedule) due(now time.Time) (model.Binding, bool) {
	if len(s.queue) == 0 || s.queue[0].at.After(now) {
		return model.Binding{}, false
	}
	return s.queue[0].binding, true
}

// next returns the time of the next announcement, 0 if nothing is scheduled.
func (s *schedule) next() time.Time {
	if len(s.queue) == 0 {
		return time.Time{}
	}
	return s.queue[0].at
}

// defend makes a binding due, unless that was done less than defendInterval ago.
func (s *schedule) defend(b model.Binding, now time.Time) bool {
	e := s.entries[b]
	if e == nil || !e.defended.IsZero() && now.Sub(e.defended) < defendInterval {
		return false
	}
	e.at, e.defended, e.answers = now, now, true
	heap.Fix(&s.queue, e.index)
	return true
}

// repeat begins the burst of a binding anew, unless that was done less than step ago: then its next one comes soon.
func (s *schedule) repeat(b model.Binding, now time.Time) bool {
	e := s.entries[b]
	if e == nil || now.Sub(e.repeated) < step {
		return false
	}
	e.at, e.sent, e.repeated = now, 0, now
	heap.Fix(&s.queue, e.index)
	return true
}

// done moves a binding to its next time. It reports whether others are to be asked for its address now: when its burst is over, and
// with each refresh, but not after an announcement that answers another one, which would make that host answer again.
func (s *schedule) done(b model.Binding, now time.Time) (ask bool) {
	e := s.entries[b]
	answered := e.answers
	e.answers = false
	e.sent++
	switch {
	case e.sent < burst:
		e.at = now.Add(step)
	case e.sent == burst:
		e.at = now.Add(firstRefresh(b.Addr))
	default:
		e.at = now.Add(refresh)
	}
	heap.Fix(&s.queue, e.index)
	return e.sent >= burst && !answered
}

// again moves a binding that could not be announced to a next try. Its burst begins anew when one succeeds.
func (s *schedule) again(b model.Binding, now time.Time) {
	e := s.entries[b]
	e.at, e.sent = now.Add(step), 0
	heap.Fix(&s.queue, e.index)
}

// firstRefresh is between a half and the whole of the refresh time, by the address: VIPs that were bound at one moment,
// as at a takeover, are not refreshed at one moment for ever after.
func firstRefresh(addr netip.Addr) time.Duration {
	h := fnv.New32a()
	h.Write(addr.AsSlice())
	return refresh/2 + time.Duration(h.Sum32()%1000)*(refresh/2)/1000
}

// restart begins the burst of an interface's bindings anew, now: its MAC address changed, or its link was lost.
func (s *schedule) restart(name string, now time.Time) {
	for b, e := range s.entries {
		if b.Interface == name {
			e.at, e.sent = now, 0
			heap.Fix(&s.queue, e.index)
		}
	}
}

// queue is a heap of entries by time, those of one time by address.
type queue []*entry

func (q queue) Len() int { return len(q) }

func (q queue) Less(i, j int) bool {
	if order := q[i].at.Compare(q[j].at); order != 0 {
		return order < 0
	}
	return q[i].binding.Addr.Less(q[j].binding.Addr)
}

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	e := x.(*entry)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
