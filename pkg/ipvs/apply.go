package ipvs

import (
	"errors"
	"fmt"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/pkg/model"
)

// Apply makes the changes in their order and returns how many were made. One that fails does not keep the others from
// being made, but for those of a server that could not be added. Adding what is there already brings it into line, and
// deleting what is gone is no error. The errors of all that failed are joined.
func (k *Kernel) Apply(changes []Change) (applied int, err error) {
	return applyAll(changes, k.apply)
}

// applyAll is Apply with the write to be made.
func applyAll(changes []Change, apply func(Change) error) (applied int, err error) {
	var failures []error
	var missing model.Frontend // could not be added
	for _, c := range changes {
		if c.Frontend == missing && missing.Addr.IsValid() {
			continue
		}
		if err := apply(c); err != nil {
			failures = append(failures, fmt.Errorf("%s: %w", c, err))
			if c.Op == AddServer {
				missing = c.Frontend
			}
			if errors.Is(err, ErrNotPermitted) || errors.Is(err, ErrClosed) {
				break // the others would fail alike
			}
			continue
		}
		applied++
	}
	return applied, errors.Join(failures...)
}

func (k *Kernel) apply(c Change) error {
	service, err := toService(c.server())
	if err != nil {
		return err
	}
	switch c.Op {
	case AddServer, EditServer, DeleteServer:
		return explain(c, k.call(func(h handle) error { return writeService(h, c.Op, service) }))
	case AddBackend, EditBackend, DeleteBackend:
		if err := checkFamily(c.Frontend, c.Backend); err != nil {
			return err
		}
		destination := toDestination(c.Backend)
		return explain(c, k.call(func(h handle) error { return writeDestination(h, c.Op, service, destination) }))
	default:
		return fmt.Errorf("%s is not a change", c.Op)
	}
}

func writeService(h handle, op Op, s *ipvs.Service) error {
	switch op {
	case AddServer:
		err := h.NewService(s)
		if errors.Is(err, unix.EEXIST) {
			return h.UpdateService(s)
		}
		return err
	case EditServer:
		return h.UpdateService(s)
	default:
		return gone(h.DelService(s))
	}
}

func writeDestination(h handle, op Op, s *ipvs.Service, d *ipvs.Destination) error {
	switch op {
	case AddBackend:
		err := h.NewDestination(s, d)
		if errors.Is(err, unix.EEXIST) {
			return h.UpdateDestination(s, d)
		}
		return err
	case EditBackend:
		return h.UpdateDestination(s, d)
	default:
		return gone(h.DelDestination(s, d))
	}
}

// gone makes a success of deleting what is not there: the kernel says ESRCH for a service, ENOENT for a destination.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// explain adds to the kernel's bare error number what it means here and what helps.
func explain(c Change, err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	onServer := c.Op == AddServer || c.Op == EditServer
	switch {
	case errno == unix.ENOENT && onServer:
		return fmt.Errorf("this kernel has no IPVS scheduler %q: run modprobe ip_vs_%s on the node, or choose another scheduler: %w",
			c.Scheduler.Name, c.Scheduler.Name, err)
	case errno == unix.ENOENT:
		return fmt.Errorf("the server has no such backend: %w", err)
	case errno == unix.ESRCH:
		return fmt.Errorf("there is no such server: %w", err)
	case errno == unix.EAFNOSUPPORT:
		return fmt.Errorf("this kernel's IPVS has no %s (CONFIG_IP_VS_IPV6): %w", family(c.Frontend.Addr), err)
	case errno == unix.EPROTONOSUPPORT || errno == unix.EFAULT && onServer:
		return fmt.Errorf("this kernel's IPVS does not balance %s (CONFIG_IP_VS_PROTO_%s): %w", c.Frontend.Proto, c.Frontend.Proto, err)
	default:
		return err
	}
}
