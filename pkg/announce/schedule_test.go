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

// TestARepetitionBeginsTheBurstAnew: whatever another host said, and whenever, the next announcement is near.
func TestARepetitionBeginsTheBurstAnew(t *testing.T) {
	b := model.Binding{Addr: netip.MustParseAddr("10.0.0.1"), Interface: "eth0"}
	s, now := newSchedule(), time.Now()
	s.set([]model.Binding{b})
	for range burst - 1 {
		s.done(b, now)
	}
	if !s.repeat(b, now) {
		t.Fatal("not repeated")
	}
	if again := s.repeat(b, now.Add(step/2)); again {
		t.Error("repeated once more within a step")
	}
	for i := range burst {
		if _, due := s.due(now); !due {
			t.Errorf("announcement %d after it is not due", i+1)
		}
		if ask := s.done(b, now); ask != (i == burst-1) {
			t.Errorf("others are asked after announcement %d: %v", i+1, ask)
		}
		now = now.Add(step)
	}
}
