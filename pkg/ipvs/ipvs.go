// Package ipvs makes the virtual servers of one network namespace be what they should be.
//
// It owns the IPVS services whose address is a VIP of ours, and their destinations. It never touches a service whose address
// the caller does not call ours (Diff), and never flushes the table.
//
// It does not promise that two nodes that reached the same set of destinations by different ways map every flow alike: a
// destination added later stands last in the kernel's list, whatever its address, and the table of the scheduler mh depends
// on that order (15 of 1500 flows moved when it was reversed).
//
// A Kernel acts in the network namespace that its Config names, or else in that of the thread that calls New, which is the one
// its caller must then be in whenever it calls a method.
package ipvs

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/pkg/model"
)

// Errors that a caller may decide on.
var (
	// ErrNoIPVS says that the kernel has no IPVS.
	ErrNoIPVS = errors.New("this kernel has no IPVS: load module ip_vs (modprobe ip_vs) or boot a kernel that has it (CONFIG_IP_VS)")
	// ErrNotPermitted says that this process may not change IPVS.
	ErrNotPermitted = errors.New("the kernel refuses access to IPVS: CAP_NET_ADMIN is missing (add NET_ADMIN to the container's capabilities)")
	// ErrDeadline says that the kernel did not answer in time. The next call opens a new socket.
	ErrDeadline = errors.New("the kernel did not answer in time")
	// ErrClosed says that the Kernel was closed.
	ErrClosed = errors.New("ipvs is closed")
)

// FamilyError says that a backend's address family is not that of its frontend, which nothing but a tunnel bridges.
type FamilyError struct {
	Frontend model.Frontend
	Backend  netip.AddrPort
}

func (e *FamilyError) Error() string {
	return fmt.Sprintf("backend %s is %s but its frontend %s is %s: only a tunnel bridges families; give the VIP backends of its own family",
		e.Backend, family(e.Backend.Addr()), frontend(e.Frontend), family(e.Frontend.Addr))
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func frontend(f model.Frontend) string {
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(f.Addr, f.Port), f.Proto)
}

// checkFamily returns a FamilyError unless frontend and backend are both IPv4 or both IPv6, or packets are tunnelled.
func checkFamily(f model.Frontend, b model.Backend) error {
	if f.Addr.Is4() != b.Addr.Addr().Is4() && b.Forwarding != model.Tunnel {
		return &FamilyError{Frontend: f, Backend: b.Addr}
	}
	return nil
}
