package ipvs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// defaultDeadline of one call. The library's own timeouts do not end a call: it waits again and again for an answer that
// was lost. A call takes microseconds; the dump of 10,000 services well under a second.
const defaultDeadline = 5 * time.Second

// Config of a Kernel. The zero value is good.
type Config struct {
	// Deadline of one call to the kernel; 0 means 5 s.
	Deadline time.Duration
	// Namespace is the path of a network namespace; empty means that of the calling thread.
	Namespace string
}

// Kernel is the IPVS of a network namespace. Its methods may be called from several goroutines; one call is made at a time.
type Kernel struct {
	deadline time.Duration
	open     func() (handle, error)

	mu      sync.Mutex
	closed  bool
	session *session // nil: to be opened by the next call
}

// New opens the IPVS of a network namespace and proves that it works, since without IPVS in the kernel
// every call of the library but one reports success. The errors wrap ErrNoIPVS or ErrNotPermitted. The library looks for
// IPVS once in a process: after ErrNoIPVS, load the module and start the process again.
func New(cfg Config) (*Kernel, error) {
	k := &Kernel{deadline: cmp.Or(cfg.Deadline, defaultDeadline), open: func() (handle, error) { return openHandle(cfg.Namespace) }}
	if err := k.probe(); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// Close closes the socket. Calls after it return ErrClosed.
func (k *Kernel) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.session != nil {
		k.session.close()
		k.session = nil
	}
}

// call runs f with a handle that nobody else uses.
func (k *Kernel) call(f func(handle) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return ErrClosed
	}
	if k.session == nil {
		h, err := k.open()
		if err != nil {
			return fmt.Errorf("open a netlink socket for IPVS: %w", err)
		}
		k.session = newSession(h)
	}
	err := k.session.run(k.deadline, f)
	if errors.Is(err, ErrDeadline) {
		k.session = nil
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}

// Servers returns every TCP, UDP and SCTP virtual server of the namespace with its backends, whoever made it, in order.
func (k *Kernel) Servers() ([]model.Server, error) {
	services, err := k.services()
	if err != nil {
		return nil, err
	}
	servers := make([]model.Server, 0, len(services))
	for _, service := range services {
		server, ok := fromService(service)
		if !ok {
			continue
		}
		if server.Backends, err = k.backends(service); err != nil {
			return nil, fmt.Errorf("list the destinations of IPVS service %s: %w", frontend(server.Frontend), err)
		}
		servers = append(servers, server)
	}
	slices.SortFunc(servers, func(a, b model.Server) int { return a.Compare(b.Frontend) })
	return servers, nil
}

// Frontends returns those of every TCP, UDP and SCTP virtual server of the namespace, whoever made it, in order. It is one
// dump and does not ask for destinations, so that it costs a fraction of Servers.
func (k *Kernel) Frontends() ([]model.Frontend, error) {
	services, err := k.services()
	if err != nil {
		return nil, err
	}
	frontends := make([]model.Frontend, 0, len(services))
	for _, service := range services {
		if server, ok := fromService(service); ok {
			frontends = append(frontends, server.Frontend)
		}
	}
	slices.SortFunc(frontends, model.Frontend.Compare)
	return frontends, nil
}

func (k *Kernel) services() ([]*ipvs.Service, error) {
	var services []*ipvs.Service
	err := k.call(func(h handle) (err error) {
		services, err = h.GetServices()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the IPVS services: %w", err)
	}
	return services, nil
}

// Server returns one virtual server with its backends; false if there is none. The kernel finds it by a hash: the cost does
// not grow with the table.
func (k *Kernel) Server(f model.Frontend) (model.Server, bool, error) {
	key, err := toService(model.Server{Frontend: f})
	if err != nil {
		return model.Server{}, false, err
	}
	var service *ipvs.Service
	err = k.call(func(h handle) (err error) {
		service, err = h.GetService(key)
		return err
	})
	if errors.Is(err, unix.ESRCH) {
		return model.Server{}, false, nil
	}
	if err != nil {
		return model.Server{}, false, fmt.Errorf("read IPVS service %s: %w", frontend(f), err)
	}
	server, ok := fromService(service)
	if !ok {
		return model.Server{}, false, fmt.Errorf("read IPVS service %s: the kernel answered with %+v", frontend(f), service)
	}
	if server.Backends, err = k.backends(key); err != nil {
		return model.Server{}, false, fmt.Errorf("list the destinations of IPVS service %s: %w", frontend(f), err)
	}
	return server, true, nil
}

func (k *Kernel) backends(service *ipvs.Service) ([]model.Backend, error) {
	var destinations []*ipvs.Destination
	err := k.call(func(h handle) (err error) {
		destinations, err = h.GetDestinations(service)
		return err
	})
	return fromDestinations(destinations), err
}
