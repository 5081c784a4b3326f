package ipvs

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
	"github.com/fairlead/fairlead/pkg/model"
)

// flows is how many flows are compared between nodes.
const flows = 1500

var flowVIP = model.Frontend{Addr: netip.MustParseAddr("10.9.0.1"), Port: 53, Proto: model.UDP}

// flowBackend is backend i, which listens on the node itself.
func flowBackend(i int, weight uint16) model.Backend {
	return model.Backend{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 1, byte(i)}), 53), Weight: weight}
}

func flowServer(scheduler model.Scheduler, weights ...uint16) model.Server {
	s := model.Server{Frontend: flowVIP, Scheduler: scheduler}
	for i, weight := range weights {
		s.Backends = append(s.Backends, flowBackend(i+1, weight))
	}
	return s
}

// mapping goes through states of one server on a fresh node and returns which backend each flow gets at the end, by its
// source port; "" for one that nobody answers.
func mapping(t *testing.T, history ...model.Server) []string {
	t.Helper()
	out := make([]string, flows)
	netnstest.New(t).Do(func() error {
		addresses := []string{flowVIP.Addr.String() + "/32", "10.9.2.1/32"}
		for i := range 8 {
			addresses = append(addresses, flowBackend(i+1, 1).Addr.Addr().String()+"/32")
		}
		if err := netnstest.Dummy("eth0", addresses...); err != nil {
			return err
		}
		for i := range 8 {
			conn, err := net.ListenPacket("udp", flowBackend(i+1, 1).Addr.String())
			if err != nil {
				return err
			}
			t.Cleanup(func() { conn.Close() })
			go func() {
				buffer := make([]byte, 16)
				for {
					_, from, err := conn.ReadFrom(buffer)
					if err != nil {
						return
					}
					_, _ = conn.WriteTo([]byte(fmt.Sprint(i+1)), from)
				}
			}()
		}
		k, err := New(Config{})
		if err != nil {
			return err
		}
		t.Cleanup(k.Close)
		for _, state := range history {
			apply(t, k, state)
		}
		for i := range out {
			if out[i], err = flow(20000 + i); err != nil {
				return err
			}
		}
		return nil
	})
	return out
}

// flow asks the VIP from a source port and returns who answered.
func flow(port int) (string, error) {
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 9, 2, 1), Port: port}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(flowVIP.Addr, flowVIP.Port)))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("who")); err != nil {
		return "", nil // refused
	}
	buffer := make([]byte, 16)
	length, err := conn.Read(buffer)
	if err != nil {
		return "", nil // refused
	}
	return string(buffer[:length]), nil
}

func moved(a, b []string) (count int) {
	for i := range a {
		if a[i] != b[i] {
			count++
		}
	}
	return count
}

// TestKernelNodesMapFlowsAlike compares a node that saw backends come, drain and come back with one that is programmed afresh,
// as one that takes over after a reboot is.
func TestKernelNodesMapFlowsAlike(t *testing.T) {
	all := []uint16{1, 1, 1, 1, 1, 1, 1, 1}
	drained := []uint16{1, 1, 0, 1, 1, 1, 1, 1}
	heavier := []uint16{3, 1, 0, 1, 1, 5, 1, 1}
	for name, history := range map[string][]model.Server{
		"after a drain":             {flowServer(model.MaglevByPort, all...), flowServer(model.MaglevByPort, drained...)},
		"after a drain and back":    {flowServer(model.MaglevByPort, all...), flowServer(model.MaglevByPort, drained...), flowServer(model.MaglevByPort, all...)},
		"after a change of weights": {flowServer(model.MaglevByPort, all...), flowServer(model.MaglevByPort, heavier...)},
		"after another scheduler":   {flowServer(rr, all...), flowServer(model.MaglevByPort, drained...)},
		"by source address alone":   {flowServer(model.Maglev, all...), flowServer(model.Maglev, drained...)},
	} {
		t.Run(name, func(t *testing.T) {
			seen := mapping(t, history...)
			fresh := mapping(t, history[len(history)-1])
			if count := moved(seen, fresh); count != 0 {
				t.Errorf("%d of %d flows get another backend on a fresh node", count, flows)
			}
			if slices.Contains(seen, "") {
				t.Error("some flows were refused")
			}
		})
	}
	// The comparison can tell: backends that were added in another order give another table.
	last := flowServer(model.MaglevByPort, all...)
	without := last
	without.Backends = last.Backends[1:]
	t.Logf("%d of %d flows get another backend where the first one was added last", moved(mapping(t, last), mapping(t, without, last)), flows)
	if moved(mapping(t, last), mapping(t, flowServer(rr, all...))) == 0 {
		t.Error("the scheduler rr maps flows as mh does: the comparison compares nothing")
	}
}

// TestKernelAFullBackendGetsNoMore holds as many connections as two backends may have, and one more.
func TestKernelAFullBackendGetsNoMore(t *testing.T) {
	netnstest.New(t).Do(func() error {
		addresses := []string{flowVIP.Addr.String() + "/32"}
		s := model.Server{Frontend: model.Frontend{Addr: flowVIP.Addr, Port: 80, Proto: model.TCP}, Scheduler: model.MaglevByPort}
		for i := 1; i <= 2; i++ {
			b := flowBackend(i, 1)
			b.MaxConnections = 4
			s.Backends = append(s.Backends, b)
			addresses = append(addresses, b.Addr.Addr().String()+"/32")
		}
		if err := netnstest.Dummy("eth0", addresses...); err != nil {
			return err
		}
		for _, b := range s.Backends {
			listener, err := net.Listen("tcp", b.Addr.String())
			if err != nil {
				return err
			}
			t.Cleanup(func() { listener.Close() })
		}
		k, err := New(Config{})
		if err != nil {
			return err
		}
		t.Cleanup(k.Close)
		apply(t, k, s)
		open := 0
		for range 12 {
			if conn, err := net.Dial("tcp", netip.AddrPortFrom(s.Addr, s.Port).String()); err == nil {
				t.Cleanup(func() { conn.Close() })
				open++
			}
		}
		if open != 8 {
			t.Errorf("two backends of 4 connections have %d", open)
		}
		return nil
	})
}
