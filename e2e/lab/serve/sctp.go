package serve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// sctpBacklog is of connections not yet accepted.
const sctpBacklog = 128

// listenSCTP opens a one-to-one style socket (RFC 6458, section 4), for both families where there are both.
func listenSCTP(port uint16) (*os.File, error) {
	fd, err := socketSCTP(unix.AF_INET6)
	var address unix.Sockaddr = &unix.SockaddrInet6{Port: int(port)}
	if errors.Is(err, unix.EAFNOSUPPORT) {
		fd, err = socketSCTP(unix.AF_INET)
		address = &unix.SockaddrInet4{Port: int(port)}
	} else if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("SCTP socket: %w", err)
	}
	if err := errors.Join(unix.Bind(fd, address), unix.Listen(fd, sctpBacklog)); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("sctp:%d", port)), nil
}

func socketSCTP(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_SCTP)
}

func (s *server) sctp(listener *os.File) error {
	raw, err := listener.SyscallConn()
	if err != nil {
		return fmt.Errorf("SCTP socket: %w", err)
	}
	for {
		var fd int
		var peer unix.Sockaddr
		var acceptErr error
		err := raw.Read(func(socket uintptr) bool {
			for acceptErr = unix.EINTR; errors.Is(acceptErr, unix.EINTR); {
				fd, peer, acceptErr = unix.Accept4(int(socket), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			}
			return !errors.Is(acceptErr, unix.EAGAIN)
		})
		if err = errors.Join(err, acceptErr); err != nil {
			return fmt.Errorf("accept SCTP: %w", err)
		}
		// Ends with the association; the process ends all.
		go s.lines(os.NewFile(uintptr(fd), "sctp"), peerText(peer))
	}
}

func peerText(address unix.Sockaddr) string {
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port)).String()
	}
	return "unknown"
}

// DialSCTP connects a one-to-one style socket from a port, or from any if it is 0.
func DialSCTP(ctx context.Context, from uint16, to netip.AddrPort) (*os.File, error) {
	family, address := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
	var own unix.Sockaddr = &unix.SockaddrInet6{Port: int(from)}
	if to.Addr().Is4() {
		family, address = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
		own = &unix.SockaddrInet4{Port: int(from)}
	}
	fd, err := socketSCTP(family)
	if err != nil {
		return nil, fmt.Errorf("SCTP socket: %w", err)
	}
	if err := unix.Bind(fd, own); err != nil {
		return nil, errors.Join(fmt.Errorf("bind SCTP port %d: %w", from, err), unix.Close(fd))
	}
	err = unix.Connect(fd, address)
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return nil, errors.Join(fmt.Errorf("connect SCTP to %s: %w", to, err), unix.Close(fd))
	}
	file := os.NewFile(uintptr(fd), "sctp")
	if deadline, ok := ctx.Deadline(); ok {
		if err := file.SetDeadline(deadline); err != nil {
			return nil, errors.Join(fmt.Errorf("SCTP deadline: %w", err), file.Close())
		}
	}
	if err := connected(file); err != nil {
		return nil, errors.Join(fmt.Errorf("connect SCTP to %s: %w", to, err), file.Close())
	}
	return file, nil
}

// connected waits for a connect in progress.
func connected(file *os.File) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var state error
	err = raw.Write(func(fd uintptr) bool {
		if _, state = unix.Getpeername(int(fd)); state == nil {
			return true
		}
		if failed, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || failed != 0 {
			state = errors.Join(err, unix.Errno(failed))
			return true
		}
		return false
	})
	return errors.Join(err, state)
}
