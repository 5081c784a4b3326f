package gossip

import (
	"net/netip"
	"sync"
	"testing"
	"time"
)

// A speaker that gets to read nothing for longer than a probe lasts holds nobody dead for it, but waits until it hears itself. If
// it never does, it says that it may be alone with that.
func TestWhoReadsNothingBlamesNobody(t *testing.T) {
	for _, test := range []struct {
		name  string
		reads time.Duration // after the probe's begin
		want  outcome
	}{
		{"late", 2 * probeFor, answered},
		{"too late", 2 * deafFor, unheard},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t)
			one, two := c.start("n1", "127.0.0.1", keyA), c.start("n2", "127.0.0.2", keyA)
			one.sees("n2", "lives", alive)
			s, at := one.session.Load(), netip.AddrPortFrom(two.addr, uint16(c.port))
			blocked, reads := make(chan struct{}), make(chan struct{})
			block := sync.OnceFunc(func() {
				close(blocked)
				<-reads
			})
			one.hook.Store(&block)
			one.Ask() // the answer is read, and no message after it
			<-blocked
			time.AfterFunc(test.reads, func() { close(reads) })
			if got := s.probe("n2", at, thorough); got != test.want {
				t.Errorf("the outcome of a probe of one that answers is %v, want %v\n%s", got, test.want, one.log)
			}
			<-reads
		})
	}
}
