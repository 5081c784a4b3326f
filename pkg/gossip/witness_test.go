package gossip

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
)

// mute makes peers of a member whose machines take connections and datagrams and answer nothing, as frozen ones do.
func (c *cluster) mute(of *member, names ...string) (end func()) {
	c.t.Helper()
	var open []io.Closer
	for i, name := range names {
		at := netip.AddrPortFrom(c.add(name, fmt.Sprintf("127.0.0.%d", 100+i)), uint16(c.port))
		tcp, err := net.Listen("tcp", at.String())
		if err != nil {
			c.t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", at.String())
		if err != nil {
			c.t.Fatal(err)
		}
		open = append(open, tcp, udp)
		of.mu.Lock()
		of.peers[name] = &peer{name: name, at: at, state: State{Alive: true}, listed: true, kick: make(chan struct{}, 1)}
		of.mu.Unlock()
	}
	return func() {
		for _, socket := range open {
			_ = socket.Close()
		}
	}
}

func TestWhoHearsNobodyKnowsThatItMayBeCutOff(t *testing.T) {
	for _, test := range []struct {
		name  string
		mute  []string
		alone bool
	}{
		{"the other answers", []string{"n3"}, false},
		{"half of the others answer", []string{"n3", "n4"}, false},
		{"most others are silent", []string{"n3", "n4", "n5"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			// A process that has no processor for as long as a probe lasts is as alone as one that is cut off.
			eventually(t, fmt.Sprintf("n1 finds n3 silent, alone: %v", test.alone), func() bool {
				return findSilent(t, test.mute).Alone == test.alone
			}, func() string { return fmt.Sprintf("%v are silent", test.mute) })
		})
	}
}

// findSilent is what n1 knows of n3 once it is held dead; n2 answers.
func findSilent(t *testing.T, mute []string) State {
	t.Helper()
	c := newCluster(t)
	one, two := c.start("n1", "127.0.0.1", keyA), c.start("n2", "127.0.0.2", keyA)
	one.sees("n2", "lives", alive)
	unmute := c.mute(one, mute...)
	one.Watch([]string{"n3"})
	one.sees("n3", "is silent", func(s State) bool { return !s.Alive && !s.Refused })
	found := one.Peers()["n3"]
	for _, stop := range []func(){one.stop, two.stop, unmute} {
		stop()
	}
	return found
}
