// Package machine makes hosts of network namespaces on the kernel it runs on, and runs commands on them. It owns the
// namespaces whose names begin with its prefix and every process in them; it never touches another namespace, and never
// the namespace it runs in except where a caller adopts that as a host.
package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/vishvananda/netns"
)

// Machine is the hosts on one kernel. It is safe for concurrent use.
type Machine struct {
	prefix string

	mu    sync.Mutex
	hosts map[string]*space
}

// New makes a machine without hosts. The names of its network namespaces are the hosts' behind prefix.
func New(prefix string) *Machine {
	return &Machine{prefix: prefix, hosts: map[string]*space{}}
}

// Adopt makes a host of the namespace that the process is in.
func (m *Machine) Adopt(name string) error {
	s, err := newSpace(func() error { return nil })
	if err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	return m.keep(name, s)
}

// Add makes a host and its network.
func (m *Machine) Add(host Host) error {
	if _, err := m.space(host.Name); err == nil {
		return fmt.Errorf("host %s exists already: choose another name", host.Name)
	}
	s, err := newSpace(func() error {
		if _, err := netns.NewNamed(m.prefix + host.Name); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		if host.Private {
			return own(host.Name)
		}
		return nil
	})
	if err == nil {
		err = m.keep(host.Name, s)
	}
	if err != nil {
		return fmt.Errorf("host %s: %w", host.Name, err)
	}
	if err := m.Configure(host.Name, host.Network); err != nil {
		return errors.Join(err, m.Delete(host.Name))
	}
	return nil
}

func (m *Machine) keep(name string, s *space) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.hosts[name]; ok {
		s.close()
		return fmt.Errorf("host %s exists already", name)
	}
	m.hosts[name] = s
	return nil
}

func (m *Machine) space(name string) (*space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.hosts[name]
	if !ok {
		return nil, fmt.Errorf("no host is named %s", name)
	}
	return s, nil
}

// Delete kills every process of a host and removes it with its network. A host that is not there is no error.
func (m *Machine) Delete(name string) error {
	m.mu.Lock()
	s, ok := m.hosts[name]
	delete(m.hosts, name)
	m.mu.Unlock()
	if !ok {
		return nil
	}
	err := KillAll(m.prefix + name)
	// The kernel would delete them too, but only some time after the namespace is gone.
	err = errors.Join(err, s.do(deleteVeths))
	s.close()
	return errors.Join(err, Remove(m.prefix+name))
}

// Namespace is the name below /run/netns of a host that was added.
func (m *Machine) Namespace(host string) string { return m.prefix + host }

// Dial connects from a host to an address (no names are looked up).
func (m *Machine) Dial(ctx context.Context, host, network, address string) (net.Conn, error) {
	s, err := m.space(host)
	if err != nil {
		return nil, err
	}
	inside, err := newSpace(func() error { return netns.Set(s.ns) })
	if err != nil {
		return nil, fmt.Errorf("enter host %s: %w", host, err)
	}
	defer inside.close()
	var conn net.Conn
	err = inside.do(func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// pause is how long dying processes are left alone between two looks.
func pause() { time.Sleep(5 * time.Millisecond) }
