package ipvs

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Connections counts what each backend of a server has, established or on its way there or out (ipvsadm's ActiveConn and
// InActConn: a client that closed its side may still be waiting for an answer). There is nothing to count of a server that is
// not there.
func (k *Kernel) Connections(f model.Frontend) (map[netip.AddrPort]int, error) {
	service, err := toService(model.Server{Frontend: f})
	if err != nil {
		return nil, err
	}
	var destinations []*ipvs.Destination
	err = k.call(func(h handle) (err error) {
		destinations, err = h.GetDestinations(service)
		return err
	})
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("count the connections of IPVS service %s: %w", frontend(f), err)
	}
	counts := make(map[netip.AddrPort]int, len(destinations))
	for _, d := range destinations {
		if addr, ok := netip.AddrFromSlice(d.Address); ok {
			counts[netip.AddrPortFrom(addr, d.Port)] = d.ActiveConnections + d.InactiveConnections
		}
	}
	return counts, nil
}

// Connect gives a backend of the Fake a number of connections. They stay with the backend until it is removed.
func (f *Fake) Connect(frontend model.Frontend, backend netip.AddrPort, count int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.connections == nil {
		f.connections = map[model.Frontend]map[netip.AddrPort]int{}
	}
	if f.connections[frontend] == nil {
		f.connections[frontend] = map[netip.AddrPort]int{}
	}
	f.connections[frontend][backend] = count
}

// Connections is that of Kernel.
func (f *Fake) Connections(frontend model.Frontend) (map[netip.AddrPort]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	counts := map[netip.AddrPort]int{}
	for _, b := range f.servers[frontend].Backends {
		counts[b.Addr] = f.connections[frontend][b.Addr]
	}
	return counts, nil
}
