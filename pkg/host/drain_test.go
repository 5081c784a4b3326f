package host_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
)

// patience bounds every wait for the kernel.
const patience = time.Minute

// weigh gives the director's backends whose addresses end in one of the suffixes a weight.
func (n *network) weigh(weight uint16, suffixes ...string) {
	for i := range n.servers {
		backends := slices.Clone(n.servers[i].Backends)
		for j, b := range backends {
			if slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(b.Addr.Addr().String(), s) }) {
				backends[j].Weight = weight
			}
		}
		n.servers[i].Backends = backends
	}
	n.director.Do(n.balance)
}

// connections counts those of one TCP backend.
func (n *network) connections(vip string, backend netip.AddrPort) (count int) {
	n.t.Helper()
	n.director.Do(func() error {
		balancer, err := ipvs.New(ipvs.Config{})
		if err != nil {
			return err
		}
		defer balancer.Close()
		counts, err := balancer.Connections(model.Frontend{Addr: netip.MustParseAddr(vip), Port: 81, Proto: model.TCP})
		count = counts[backend]
		return err
	})
	return count
}

// echo sends back what comes over TCP, line by line, at port 8081 of the backends, and the VIPs' port 81 leads there.
func (n *network) echo() {
	for i, backend := range n.backends {
		var listener net.Listener
		backend.Do(func() (err error) {
			listener, err = net.Listen("tcp", ":8081")
			return err
		})
		n.t.Cleanup(func() { listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					buffer := make([]byte, 16)
					for {
						length, err := conn.Read(buffer)
						if err != nil {
							return
						}
						fmt.Fprintf(conn, "b%d %s", i+1, buffer[:length])
					}
				}()
			}
		}()
	}
	for _, s := range slices.Clone(n.servers) {
		if s.Proto == model.TCP {
			s.Port, s.Backends = 81, slices.Clone(s.Backends)
			for j := range s.Backends {
				s.Backends[j].Addr = netip.AddrPortFrom(s.Backends[j].Addr.Addr(), 8081)
			}
			n.servers, n.state.Frontends = append(n.servers, s), append(n.state.Frontends, s.Frontend)
		}
	}
	n.director.Do(func() error {
		if _, err := n.table.Sync(n.t.Context(), n.state); err != nil {
			return err
		}
		return n.balance()
	})
}

// say sends a word over a connection and returns who repeats it.
func say(conn net.Conn) (by string, err error) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "word"); err != nil {
		return "", err
	}
	buffer := make([]byte, 7)
	if _, err := io.ReadFull(conn, buffer); err != nil {
		return "", err
	}
	by, _, _ = strings.Cut(string(buffer), " ")
	return by, nil
}

func dial(t *testing.T, s *netnstest.Space, to string) (conn net.Conn, by string) {
	t.Helper()
	s.Do(func() (err error) {
		conn, err = net.DialTimeout("tcp", to, patience)
		return err
	})
	t.Cleanup(func() { conn.Close() })
	by, err := say(conn)
	check(t, err)
	return conn, by
}

// TestKernelDrainKeepsConnectionsAndSaysWhenTheyEnded: with weight 0 what is established goes on and is counted, what is new
// goes elsewhere, and the count falls to 0 after the end.
func TestKernelDrainKeepsConnectionsAndSaysWhenTheyEnded(t *testing.T) {
	n := build(t)
	n.echo()
	for i, vip := range vips {
		to := net.JoinHostPort(vip, "81")
		conn, first := dial(t, n.client, to)
		backend := netip.AddrPortFrom(netip.MustParseAddr([]string{"10.0.0.2", "fd00::2"}[i]+first[1:]), 8081)
		if count := n.connections(vip, backend); count != 1 {
			t.Errorf("%s: %s has %d connections, want 1", vip, first, count)
		}
		n.weigh(0, "2"+first[1:])
		for range 4 {
			if other, by := dial(t, n.client, to); by == first {
				t.Errorf("%s: a new connection went to %s, which drains", vip, by)
			} else {
				other.Close()
			}
		}
		if by, err := say(conn); by != first || err != nil {
			t.Errorf("%s: the connection with %s that was there is answered by %q, error %v", vip, first, by, err)
		}
		if count := n.connections(vip, backend); count != 1 {
			t.Errorf("%s: %s has %d connections while it drains, want 1", vip, first, count)
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset ends it for IPVS in 10 s, a FIN in 2 min
		conn.Close()
		netnstest.Eventually(t, "the end of the connection", patience, func() bool { return n.connections(vip, backend) == 0 })
		n.weigh(1, "2"+first[1:])
	}
}

// TestKernelWithoutABackendThatTakesConnectionsClientsAreRefused: what fails closed, and what has no backend, is refused, not
// ignored.
func TestKernelWithoutABackendThatTakesConnectionsClientsAreRefused(t *testing.T) {
	n := build(t)
	refused := func(what string) {
		t.Helper()
		for i, vip := range vips {
			if name, _, err := n.client.Ask("udp", clients[i], vip, 80); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: UDP %s: answered by %q, error %v, want that it is refused", what, vip, name, err)
			}
			// A client that is still in connect(2) when the ICMP error is there hears of it at its next SYN, a second later.
			err := n.client.Try(func() error {
				conn, err := net.DialTimeout("tcp", net.JoinHostPort(vip, "80"), patience)
				if err == nil {
					conn.Close()
				}
				return err
			})
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: TCP %s: error %v, want that it is refused", what, vip, err)
			}
		}
	}
	n.weigh(0, "21", "22")
	refused("with weights of 0")
	for i := range n.servers {
		n.servers[i].Backends = nil
	}
	n.director.Do(n.balance)
	refused("without backends")
}

// flows are the director's for port 80 of a VIP: see netnstest.Flows.
func (n *network) flows(vip string) (found []string) {
	n.t.Helper()
	n.director.Do(func() error {
		all, err := netnstest.Flows()
		for _, flow := range all {
			if strings.HasPrefix(flow, net.JoinHostPort(vip, "80")+" ") {
				found = append(found, flow)
			}
		}
		return err
	})
	return found
}

// TestKernelForgetsTheFlowsOfARemovedBackend: the conntrack entry that leads a flow to a backend goes with the backend
// (vs.expire_nodest_conn and vs.conntrack), though the client is silent. Until it is gone it would rule the flow's packets.
func TestKernelForgetsTheFlowsOfARemovedBackend(t *testing.T) {
	n := build(t)
	for i, vip := range vips {
		for range 2 {
			if _, _, err := n.client.Ask("udp", clients[i], vip, 80); err != nil {
				t.Fatal(err)
			}
		}
		removed := net.JoinHostPort([]string{"10.0.0.21", "fd00::21"}[i], "8080")
		if before := n.flows(vip); len(before) != 2 || !slices.Contains(before, net.JoinHostPort(vip, "80")+" "+removed) {
			t.Fatalf("%s: before, the flows are %v, want one to each backend", vip, before)
		}
		for j := range n.servers {
			n.servers[j].Backends = slices.DeleteFunc(slices.Clone(n.servers[j].Backends), func(b model.Backend) bool {
				return b.Addr.String() == removed
			})
		}
		n.director.Do(n.balance)
		netnstest.Eventually(t, "the end of the removed backend's flow of "+vip, patience, func() bool {
			return !strings.Contains(strings.Join(n.flows(vip), ","), removed)
		})
		if after := n.flows(vip); len(after) != 1 {
			t.Errorf("%s: after, the flows are %v, want that to the other backend", vip, after)
		}
	}
}
