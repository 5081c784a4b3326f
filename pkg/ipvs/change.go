package ipvs

import (
	"fmt"

	"github.com/fairlead/fairlead/pkg/model"
)

// Op is what a Change does.
type Op uint8

// The operations on a virtual server and on its backends.
const (
	AddServer Op = iota + 1
	EditServer
	DeleteServer
	AddBackend
	EditBackend
	DeleteBackend
)

var opNames = map[Op]string{
	AddServer: "add server", EditServer: "edit server", DeleteServer: "delete server",
	AddBackend: "add backend", EditBackend: "edit backend", DeleteBackend: "delete backend",
}

func (o Op) String() string {
	if name, ok := opNames[o]; ok {
		return name
	}
	return fmt.Sprintf("operation %d", uint8(o))
}

// Change is one write to the kernel.
type Change struct {
	Op          Op
	Frontend    model.Frontend
	Scheduler   model.Scheduler // of AddServer and EditServer
	Persistence uint32          // of AddServer and EditServer
	Backend     model.Backend   // of AddBackend, EditBackend and DeleteBackend
}

func (c Change) server() model.Server {
	return model.Server{Frontend: c.Frontend, Scheduler: c.Scheduler, Persistence: c.Persistence}
}

// String is the change as a log shows it: "add backend 10.0.0.21:8080 weight 1 of 10.0.0.100:80/TCP".
func (c Change) String() string {
	f := frontend(c.Frontend)
	switch c.Op {
	case AddServer, EditServer:
		text := fmt.Sprintf("%s %s scheduler %s flags %#x", c.Op, f, c.Scheduler.Name, c.Scheduler.Flags)
		if c.Persistence > 0 {
			text += fmt.Sprintf(" persistent %d s", c.Persistence)
		}
		return text
	case AddBackend, EditBackend:
		text := fmt.Sprintf("%s %s weight %d", c.Op, c.Backend.Addr, c.Backend.Weight)
		if c.Backend.Forwarding != model.Masquerade {
			text += " by " + c.Backend.Forwarding.String()
		}
		if c.Backend.MaxConnections > 0 {
			text += fmt.Sprintf(" for %d connections", c.Backend.MaxConnections)
		}
		return text + " of " + f
	case DeleteBackend:
		return fmt.Sprintf("%s %s of %s", c.Op, c.Backend.Addr, f)
	default:
		return fmt.Sprintf("%s %s", c.Op, f)
	}
}
