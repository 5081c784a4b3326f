package ipvs

import (
	"errors"
	"fmt"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// probeMark is the firewall mark of the service that New adds and removes. It catches no traffic: nothing sets this mark.
const probeMark uint32 = 0x0fa17ead

// probe adds a service of a firewall mark with the default scheduler, reads it back and removes it. Without IPVS the
// library sends its messages to nobody and takes the kernel's empty acknowledgement for success; only reading one service
// back shows that there is none.
func (k *Kernel) probe() error {
	return k.try(model.MaglevByPort)
}

// Lacking returns those of the named schedulers that the kernel has not got, also when asked to load them.
func (k *Kernel) Lacking(names []string) (lacking []string, err error) {
	for _, name := range names {
		err := k.try(model.Scheduler{Name: name})
		if errors.Is(err, unix.ENOENT) {
			lacking = append(lacking, name)
		} else if err != nil {
			return nil, err
		}
	}
	return lacking, nil
}

func (k *Kernel) try(scheduler model.Scheduler) error {
	service := &ipvs.Service{
		AddressFamily: unix.AF_INET, Netmask: netmask4, FWMark: probeMark, SchedName: scheduler.Name, Flags: scheduler.Flags,
	}
	err := k.call(func(h handle) error {
		// A service that an earlier process had no time to remove is as good as a new one.
		if err := h.NewService(service); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add a service: %w", err)
		}
		_, readErr := h.GetService(service)
		if err := gone(h.DelService(service)); err != nil {
			return fmt.Errorf("remove a service: %w", err)
		}
		if errno := unix.Errno(0); readErr != nil && !errors.As(readErr, &errno) {
			return ErrNoIPVS // no answer at all: the message reached nobody
		}
		if readErr != nil {
			return fmt.Errorf("read a service back: %w", readErr)
		}
		return nil
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("probe IPVS: this kernel has no IPVS scheduler %q: load module ip_vs_%s: %w", service.SchedName, service.SchedName, err)
	default:
		return fmt.Errorf("probe IPVS: %w", err)
	}
}
