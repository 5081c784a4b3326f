package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Fake is a Kernel in memory, for tests of what uses it. It refuses what the kernel refuses.
type Fake struct {
	mu      sync.Mutex
	servers map[model.Frontend]model.Server
	writes  []Change
	fail    func(Change) error
	lacks   []string

	connections map[model.Frontend]map[netip.AddrPort]int // see Connect
}

// NewFake returns a kernel that has the given servers.
func NewFake(servers ...model.Server) *Fake {
	f := &Fake{servers: map[model.Frontend]model.Server{}}
	for _, s := range servers {
		f.servers[s.Frontend] = s
	}
	return f
}

// FailOn makes every change for which fail returns an error fail with it; nil ends that.
func (f *Fake) FailOn(fail func(Change) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = fail
}

// Lack makes the kernel one without the modules of the schedulers named.
func (f *Fake) Lack(schedulers ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lacks = schedulers
}

// Writes returns the changes made since the last call of Writes.
func (f *Fake) Writes() []Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	writes := f.writes
	f.writes = nil
	return writes
}

// Servers is that of Kernel.
func (f *Fake) Servers() ([]model.Server, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	servers := make([]model.Server, 0, len(f.servers))
	for _, s := range f.servers {
		servers = append(servers, copyOf(s))
	}
	return sorted(servers), nil
}

// Server is that of Kernel.
func (f *Fake) Server(frontend model.Frontend) (model.Server, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.servers[frontend]
	return copyOf(s), ok, nil
}

// Frontends is that of Kernel.
func (f *Fake) Frontends() ([]model.Frontend, error) {
	servers, err := f.Servers()
	frontends := make([]model.Frontend, 0, len(servers))
	for _, server := range servers {
		frontends = append(frontends, server.Frontend)
	}
	return frontends, err
}

// Close is that of Kernel.
func (f *Fake) Close() {}

// Apply is that of Kernel.
func (f *Fake) Apply(changes []Change) (applied int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return applyAll(changes, f.apply)
}

func (f *Fake) apply(c Change) error {
	if f.fail != nil {
		if err := f.fail(c); err != nil {
			return err
		}
	}
	var err error
	switch c.Op {
	case AddServer, EditServer, DeleteServer:
		err = f.writeServer(c)
	default:
		err = f.writeBackend(c)
	}
	if err == nil {
		f.writes = append(f.writes, c)
	}
	return explain(c, err)
}

func (f *Fake) writeServer(c Change) error {
	if _, err := toService(c.server()); err != nil {
		return err
	}
	s, exists := f.servers[c.Frontend]
	if c.Op == DeleteServer {
		delete(f.servers, c.Frontend)
		return nil
	}
	if c.Op == EditServer && !exists {
		return unix.ESRCH
	}
	if slices.Contains(f.lacks, c.Scheduler.Name) {
		return unix.ENOENT
	}
	s.Frontend, s.Scheduler, s.Persistence = c.Frontend, c.Scheduler, c.Persistence
	f.servers[c.Frontend] = s
	return nil
}

func (f *Fake) writeBackend(c Change) error {
	if err := checkFamily(c.Frontend, c.Backend); err != nil {
		return err
	}
	s, exists := f.servers[c.Frontend]
	if !exists && c.Op == DeleteBackend {
		return nil
	}
	if !exists {
		return unix.ESRCH
	}
	s = copyOf(s)
	i, found := slices.BinarySearchFunc(s.Backends, c.Backend, model.Backend.Compare)
	switch {
	case c.Op == AddBackend && !found:
		s.Backends = slices.Insert(s.Backends, i, c.Backend)
	case c.Op == AddBackend || c.Op == EditBackend && found:
		s.Backends[i] = c.Backend
	case c.Op == EditBackend:
		return unix.ENOENT
	case c.Op == DeleteBackend && found:
		s.Backends = slices.Delete(s.Backends, i, i+1)
	case c.Op == DeleteBackend:
	default:
		return fmt.Errorf("%s is not a change", c.Op)
	}
	f.servers[c.Frontend] = s
	return nil
}

func copyOf(s model.Server) model.Server {
	s.Backends = slices.Clone(s.Backends)
	return s
}
