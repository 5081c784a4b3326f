// Package agent serves a machine's hosts over the wire protocol, to the driver on the control plane's side. It owns what
// the machine owns, and as a guest's init process the guest's mounts; it decides nothing itself.
package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/topology"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// Port is where the agent listens, on the fabric's uplink address.
const Port = 9870

// Config is what an agent is told on its command line.
type Config struct {
	Families topology.Families
	// Uplink is the interface toward the control plane.
	Uplink string
	// Prefix begins the names of its network namespaces.
	Prefix string
}

// Address is where an agent of these families listens.
func Address(families topology.Families) netip.AddrPort {
	return netip.AddrPortFrom(families.Uplink()[0].Addr(), Port)
}

// Run configures the uplink and serves until ctx ends.
func Run(ctx context.Context, config Config) error {
	m := machine.New(config.Prefix)
	if err := m.Adopt(topology.Fabric); err != nil {
		return err
	}
	if err := m.Configure(topology.Fabric, config.Families.UplinkNetwork(config.Uplink)); err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", Address(config.Families).String())
	if err != nil {
		return fmt.Errorf("listen for the driver: %w", err)
	}
	return wire.Serve(ctx, listener, handlers(m))
}

type hostArgs struct {
	Host    string          `json:"host"`
	Network machine.Network `json:"network,omitzero"`
}

func handlers(m *machine.Machine) map[string]wire.Handler {
	return map[string]wire.Handler{
		"add":       wire.Handle(func(_ context.Context, h machine.Host) (any, error) { return nil, m.Add(h) }),
		"configure": wire.Handle(func(_ context.Context, a hostArgs) (any, error) { return nil, m.Configure(a.Host, a.Network) }),
		"delete":    wire.Handle(func(_ context.Context, a hostArgs) (any, error) { return nil, m.Delete(a.Host) }),
		"unplug":    wire.Handle(func(_ context.Context, a hostArgs) (any, error) { return nil, m.Unplug(a.Host) }),
		"rss": wire.Handle(func(_ context.Context, pids []int) (map[string]int64, error) {
			sizes := map[string]int64{}
			for _, pid := range pids {
				sizes[strconv.Itoa(pid)] = machine.RSS(pid)
			}
			return sizes, nil
		}),
		"start": func(_ context.Context, conn *wire.Conn, raw json.RawMessage) (any, error) {
			var command machine.Command
			if err := json.Unmarshal(raw, &command); err != nil {
				return nil, fmt.Errorf("decode command: %w", err)
			}
			return wire.ServeProcess(conn, func(stdio wire.Stdio) (wire.Process, error) {
				return m.Start(command, stdio)
			})
		},
	}
}
