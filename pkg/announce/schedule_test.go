package announce

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/model"
)

// TestAFirstAnnouncementIsBeforeAllThatIsOverdue: whoever takes hundreds over and is behind with repeating them tells of the next
// all the same.
func TestAFirstAnnouncementIsBeforeAllThatIsOverdue(t *testing.T) {
	binding := func(addr string) model.Binding {
		return model.Binding{Addr: netip.MustParseAddr(addr), Interface: "eth0"}
	}
	first, second, third := binding("10.0.0.1"), binding("10.0.0.2"), binding("10.0.0.3")
	s, now := newSchedule(), time.Now()
	s.set([]model.Binding{first, second})
	s.done(first, now)
	s.done(second, now)
	if b, due := s.due(now); due {
		t.Errorf("%s is due although all were announced", b.Addr)
	}
	now = now.Add(time.Minute)
	s.set([]model.Binding{first, second, third})
	for _, want := range []model.Binding{third, first, second} {
		b, due := s.due(now)
		if !due || b != want {
			t.Errorf("due is %v, want %v", b, want)
		}
		s.done(b, now)
	}
}
