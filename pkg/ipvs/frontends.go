package ipvs

import (
	"fmt"
	"slices"

	"github.com/moby/ipvs"

	"github.com/fairlead/fairlead/pkg/model"
)

// Frontends returns those of every TCP, UDP and SCTP virtual server of the namespace, whoever made it, in order. It is one
// dump and does not ask for destinations, so that it costs a fraction of Servers.
func (k *Kernel) Frontends() ([]model.Frontend, error) {
	var services []*ipvs.Service
	err := k.call(func(h handle) (err error) {
		services, err = h.GetServices()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the IPVS services: %w", err)
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

// Frontends is that of Kernel.
func (f *Fake) Frontends() ([]model.Frontend, error) {
	servers, err := f.Servers()
	frontends := make([]model.Frontend, 0, len(servers))
	for _, server := range servers {
		frontends = append(frontends, server.Frontend)
	}
	return frontends, err
}
