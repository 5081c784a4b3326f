package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"golang.org/x/sync/errgroup"
)

// server answers with a name.
type server struct {
	name  string
	group *errgroup.Group
}

// Run binds every listen, tells ready, and answers until ctx ends or a socket fails. Sockets take both families where the
// kernel has both.
func Run(ctx context.Context, name string, listens []Listen, ready func()) error {
	group, running := errgroup.WithContext(ctx)
	s := &server{name: name, group: group}
	for _, listen := range listens {
		closer, err := s.listen(listen)
		if err != nil {
			return fmt.Errorf("listen on %s: %w", listen, err)
		}
		stop := context.AfterFunc(running, func() { _ = closer.Close() })
		defer stop()
	}
	ready()
	if err := group.Wait(); ctx.Err() == nil {
		return err
	}
	// Told to stop: the sockets failed because they were closed.
	return nil
}

func (s *server) listen(listen Listen) (io.Closer, error) {
	address := fmt.Sprintf(":%d", listen.Port)
	switch listen.Protocol {
	case "udp":
		conn, err := listenUDP(address)
		if err != nil {
			return nil, err
		}
		s.group.Go(func() error { return s.udp(conn) })
		return conn, nil
	case "sctp":
		listener, err := listenSCTP(listen.Port)
		if err != nil {
			return nil, err
		}
		s.group.Go(func() error { return s.sctp(listener) })
		return listener, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	switch listen.Protocol {
	case "http":
		s.group.Go(func() error { return s.web().Serve(listener) })
	case "https":
		web := s.web()
		if web.TLSConfig, err = certificate(); err != nil {
			return nil, err
		}
		s.group.Go(func() error { return web.ServeTLS(listener, "", "") })
	case "grpc":
		s.group.Go(func() error { return healthy(listener) })
	case "chargen":
		s.group.Go(func() error { return tcp(listener, chargen) })
	default:
		s.group.Go(func() error { return tcp(listener, s.lines) })
	}
	return listener, nil
}

func (s *server) web() *http.Server {
	return &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprint(w, s.line(r.RemoteAddr))
	})}
}

// healthy answers every gRPC call with the message of a grpc.health.v1.HealthCheckResponse that says SERVING.
func healthy(listener net.Listener) error {
	server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 1 << 3, 1})
		w.Header().Set("Grpc-Status", "0")
	})}
	server.Protocols.SetUnencryptedHTTP2(true)
	return server.Serve(listener)
}

// line is the answer to a peer: our name and its address, without the port.
func (s *server) line(peer string) string {
	if address, err := netip.ParseAddrPort(peer); err == nil {
		peer = address.Addr().Unmap().WithZone("").String()
	}
	return s.name + " " + peer + "\n"
}

// tcp has connections served until the listener fails.
func tcp(listener net.Listener, serve func(conn io.ReadWriteCloser, peer string)) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		// Ends with the connection; the process ends all.
		go serve(conn, conn.RemoteAddr().String())
	}
}

// lines sends our line on connect and again for each line of the peer's.
func (s *server) lines(conn io.ReadWriteCloser, peer string) {
	defer func() { _ = conn.Close() }()
	line := s.line(peer)
	if _, err := io.WriteString(conn, line); err != nil {
		return
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if _, err := io.WriteString(conn, line); err != nil {
			return
		}
	}
}

// chargen sends until the peer has enough (RFC 864), in pieces that make system calls rare; what they say nobody reads.
func chargen(conn io.ReadWriteCloser, _ string) {
	defer func() { _ = conn.Close() }()
	piece := make([]byte, 256<<10)
	for {
		if _, err := conn.Write(piece); err != nil {
			return
		}
	}
}
