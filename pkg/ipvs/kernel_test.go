package ipvs

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

var _ = []interface {
	Servers() ([]model.Server, error)
	Server(model.Frontend) (model.Server, bool, error)
	Apply([]Change) (int, error)
	Close()
}{(*Kernel)(nil), (*Fake)(nil)}

// stub is a socket whose answers a test decides on.
type stub struct {
	handle
	closed  chan struct{}
	close   sync.Once
	service func(*ipvs.Service) error // answers every write of a service
	dest    func(*ipvs.Destination) error
	read    func(*ipvs.Service) (*ipvs.Service, error)
	writes  []string
}

func newStub() *stub { return &stub{closed: make(chan struct{})} }

func (s *stub) note(what string, err error) error {
	s.writes = append(s.writes, what)
	return err
}

func (s *stub) NewService(x *ipvs.Service) error  { return s.note("new service", s.service(x)) }
func (s *stub) UpdateService(*ipvs.Service) error { return s.note("set service", nil) }
func (s *stub) DelService(x *ipvs.Service) error  { return s.note("delete service", s.service(x)) }
func (s *stub) NewDestination(_ *ipvs.Service, d *ipvs.Destination) error {
	return s.note("new destination", s.dest(d))
}
func (s *stub) UpdateDestination(*ipvs.Service, *ipvs.Destination) error {
	return s.note("set destination", nil)
}
func (s *stub) DelDestination(_ *ipvs.Service, d *ipvs.Destination) error {
	return s.note("delete destination", s.dest(d))
}
func (s *stub) GetService(x *ipvs.Service) (*ipvs.Service, error) { return s.read(x) }
func (s *stub) Close()                                            { s.close.Do(func() { close(s.closed) }) }

func kernelOver(deadline time.Duration, handles ...handle) *Kernel {
	return &Kernel{deadline: deadline, open: func() (handle, error) {
		if len(handles) == 0 {
			return nil, errors.New("no more sockets")
		}
		h := handles[0]
		handles = handles[1:]
		return h, nil
	}}
}

func TestACallThatHangsIsGivenUpAndTheNextOneGetsANewSocket(t *testing.T) {
	hung, fresh := newStub(), newStub()
	hung.service = func(*ipvs.Service) error {
		<-hung.closed // as a read on a netlink socket that is closed
		return errors.New("use of closed file")
	}
	fresh.service = func(*ipvs.Service) error { return nil }
	k := kernelOver(10*time.Millisecond, hung, fresh)
	defer k.Close()
	add := []Change{{Op: AddServer, Frontend: tcp("10.0.0.1:80"), Scheduler: rr}}
	if applied, err := k.Apply(add); applied != 0 || !errors.Is(err, ErrDeadline) {
		t.Errorf("a call without an answer: %d applied, error %v, want %v", applied, err, ErrDeadline)
	}
	select {
	case <-hung.closed:
	default:
		t.Error("the socket that hung was not closed")
	}
	if applied, err := k.Apply(add); applied != 1 || err != nil {
		t.Errorf("the call after it: %d applied, error %v", applied, err)
	}
}

func TestApplyMakesSenseOfTheKernelsErrors(t *testing.T) {
	f, b := tcp("10.0.0.1:80"), backend("10.0.1.1:80", 1)
	tests := map[string]struct {
		change Change
		errno  error
		says   string // "": it is a success
		writes []string
	}{
		"deleting a server that is gone succeeds":    {Change{Op: DeleteServer, Frontend: f}, unix.ESRCH, "", []string{"delete service"}},
		"deleting a backend that is gone succeeds":   {Change{Op: DeleteBackend, Frontend: f, Backend: b}, unix.ENOENT, "", []string{"delete destination"}},
		"deleting a backend of no server succeeds":   {Change{Op: DeleteBackend, Frontend: f, Backend: b}, unix.ESRCH, "", []string{"delete destination"}},
		"adding a server that is there sets it":      {Change{Op: AddServer, Frontend: f}, unix.EEXIST, "", []string{"new service", "set service"}},
		"adding a backend that is there sets it":     {Change{Op: AddBackend, Frontend: f, Backend: b}, unix.EEXIST, "", []string{"new destination", "set destination"}},
		"a scheduler that is missing is named":       {Change{Op: AddServer, Frontend: f, Scheduler: model.Scheduler{Name: "ovf"}}, unix.ENOENT, "modprobe ip_vs_ovf", []string{"new service"}},
		"a backend of no server is told":             {Change{Op: AddBackend, Frontend: f, Backend: b}, unix.ESRCH, "no such server", []string{"new destination"}},
		"missing rights are named":                   {Change{Op: AddServer, Frontend: f}, unix.EPERM, "CAP_NET_ADMIN", []string{"new service"}},
		"another family is named before it is tried": {Change{Op: AddBackend, Frontend: f, Backend: backend("[fd00::1]:80", 1)}, nil, "backend [fd00::1]:80 is IPv6 but its frontend 10.0.0.1:80/TCP is IPv4", nil},
		"a protocol without ports is named":          {Change{Op: AddServer, Frontend: model.Frontend{Addr: f.Addr, Proto: "ICMP"}}, nil, `protocol "ICMP"`, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStub()
			s.service = func(*ipvs.Service) error { return test.errno }
			s.dest = func(*ipvs.Destination) error { return test.errno }
			k := kernelOver(time.Minute, s)
			defer k.Close()
			_, err := k.Apply([]Change{test.change})
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("error %v, want one that says %q", err, test.says)
			}
			if test.errno != nil && err != nil && !errors.Is(err, test.errno) {
				t.Errorf("error %v does not wrap %v", err, test.errno)
			}
			if diff := cmp.Diff(test.writes, s.writes); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestApplyGoesOnPastWhatFails(t *testing.T) {
	bad, good := tcp("10.0.0.1:80"), tcp("10.0.0.2:80")
	k := NewFake()
	k.FailOn(func(c Change) error {
		if c.Frontend == bad && c.Op == AddServer {
			return fmt.Errorf("no luck")
		}
		return nil
	})
	applied, err := k.Apply(Diff([]model.Server{server(bad, rr, backend("10.0.1.1:80", 1)), server(good, rr, backend("10.0.1.1:80", 1))}, nil, nothing))
	if applied != 2 {
		t.Errorf("%d changes applied, want the 2 of the server that could be added", applied)
	}
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "add server 10.0.0.1:80/TCP") {
		t.Errorf("error %q, want one line that names the change that failed", err)
	}
}

func TestTheProbeSaysWhatIsMissing(t *testing.T) {
	tests := map[string]struct {
		write, read error
		want        error
		says        string
	}{
		"IPVS that works":           {},
		"no IPVS in the kernel":     {read: errors.New("Expected only one service obtained=0"), want: ErrNoIPVS, says: "modprobe ip_vs"},
		"no right to use it":        {write: unix.EPERM, want: ErrNotPermitted, says: "CAP_NET_ADMIN"},
		"no default scheduler":      {write: unix.ENOENT, says: "load module ip_vs_mh"},
		"a probe that was left":     {write: unix.EEXIST},
		"a service that vanishes":   {read: unix.ESRCH, says: "read a service back"},
		"a kernel that has no room": {write: unix.ENOMEM, says: "add a service"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStub()
			adds := 0
			s.service = func(*ipvs.Service) error {
				if adds++; adds == 1 {
					return test.write
				}
				return nil
			}
			s.read = func(x *ipvs.Service) (*ipvs.Service, error) { return x, test.read }
			k := kernelOver(time.Minute, s)
			defer k.Close()
			err := k.probe()
			if test.want != nil && !errors.Is(err, test.want) || (err == nil) != (test.says == "") {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %q does not say %q", err, test.says)
			}
			if test.says == "" && s.writes[len(s.writes)-1] != "delete service" {
				t.Errorf("the probe left its service: %v", s.writes)
			}
		})
	}
}

func TestCallsAfterCloseFail(t *testing.T) {
	k := kernelOver(time.Second, newStub())
	k.Close()
	if _, err := k.Servers(); !errors.Is(err, ErrClosed) {
		t.Errorf("error %v, want %v", err, ErrClosed)
	}
}
