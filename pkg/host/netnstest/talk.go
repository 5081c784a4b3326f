package netnstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// patience is how long an answer may take on a machine that has much else to do.
	patience = 15 * time.Second
	// silence is how long nobody must answer to be taken for silent: what is closed is dropped.
	silence = time.Second
)

// Serve answers TCP and UDP on a port of the host, until the test ends, with a name and the address it sees the peer by.
func (s *Space) Serve(port int, name string) {
	s.t.Helper()
	s.Do(func() error {
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		packets, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		s.t.Cleanup(func() { _, _ = listener.Close(), packets.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(conn, "%s %s", name, conn.RemoteAddr()) // who went away needs no answer
				_ = conn.Close()
			}
		}()
		go func() {
			buffer := make([]byte, 100)
			for {
				_, from, err := packets.ReadFrom(buffer)
				if err != nil {
					return
				}
				_, _ = packets.WriteTo([]byte(name+" "+from.String()), from)
			}
		}()
		return nil
	})
}

// Ask connects by "tcp" or "udp" from an address of the host ("": any) to what Serve serves, and returns who answered and
// whom that saw.
func (s *Space) Ask(network, from, to string, port int) (name, seen string, err error) {
	return s.ask(network, from, to, port, patience)
}

// AskBriefly is Ask where no answer is expected.
func (s *Space) AskBriefly(network, from, to string, port int) (name, seen string, err error) {
	return s.ask(network, from, to, port, silence)
}

func (s *Space) ask(network, from, to string, port int, patience time.Duration) (name, seen string, err error) {
	err = s.Try(func() error {
		dialer := net.Dialer{Timeout: patience}
		if from != "" {
			local := net.JoinHostPort(from, "0")
			var err error
			if network == "tcp" {
				dialer.LocalAddr, err = net.ResolveTCPAddr(network, local)
			} else {
				dialer.LocalAddr, err = net.ResolveUDPAddr(network, local)
			}
			if err != nil {
				return err
			}
		}
		conn, err := dialer.Dial(network, net.JoinHostPort(to, fmt.Sprint(port)))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(patience))
		if network == "udp" {
			if _, err := conn.Write([]byte("who")); err != nil {
				return err
			}
		}
		buffer := make([]byte, 100)
		length, err := conn.Read(buffer)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var peer string
		if _, err := fmt.Sscan(string(buffer[:length]), &name, &peer); err != nil {
			return err
		}
		seen, _, err = net.SplitHostPort(peer)
		return err
	})
	return name, seen, err
}
