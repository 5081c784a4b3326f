package gossip

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// mute makes peers of a member whose machines take connections and datagrams and answer nothing, as frozen ones do.
func (c *cluster) mute(of *member, names ...string) {
	c.t.Helper()
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
		c.t.Cleanup(func() { _, _ = tcp.Close(), udp.Close() })
		of.mu.Lock()
		of.peers[name] = &peer{name: name, at: at, state: State{Alive: true}, listed: true, kick: make(chan struct{}, 1)}
		of.mu.Unlock()
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
			c := newCluster(t)
			one := c.start("n1", "127.0.0.1", keyA)
			c.start("n2", "127.0.0.2", keyA)
			one.sees("n2", "lives", alive)
			c.mute(one, test.mute...)
			one.Watch([]string{"n3"})
			one.sees("n3", "is silent", func(s State) bool { return !s.Alive && !s.Refused })
			if state := one.Peers()["n3"]; state.Alone != test.alone {
				t.Errorf("of n1 and its peers, of which %v are silent, it knows %+v", test.mute, state)
			}
		})
	}
}
