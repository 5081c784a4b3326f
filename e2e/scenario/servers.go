package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/e2e/cluster"
)

// Server is what a node's IPVS does with one TCP frontend.
type Server struct {
	Scheduler string
	// Weights of the backends.
	Weights map[netip.AddrPort]int
}

// String lists the backends in no order that means anything.
func (s Server) String() string {
	return fmt.Sprintf("scheduler %s, weights %v", s.Scheduler, s.Weights)
}

// ReadServer reads a TCP frontend of a node, as ipvsadm shows it; false if there is none.
func ReadServer(ctx context.Context, c cluster.Cluster, node string, frontend netip.AddrPort) (server Server, found bool, err error) {
	text, err := c.Output(ctx, node, "sh", "-c", Everywhere("ipvsadm -Ln"))
	if err != nil {
		return Server{}, false, err
	}
	server = Server{Weights: map[netip.AddrPort]int{}}
	ours := false
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 3 && fields[0] == "TCP":
			if ours = fields[1] == frontend.String(); ours {
				server.Scheduler = fields[2]
			}
		case ours && len(fields) >= 4 && fields[0] == "->":
			backend, err := netip.ParseAddrPort(fields[1])
			if err != nil {
				return Server{}, false, fmt.Errorf("read ipvsadm's %q: %w", line, err)
			}
			if server.Weights[backend], err = strconv.Atoi(fields[3]); err != nil {
				return Server{}, false, fmt.Errorf("read ipvsadm's %q: %w", line, err)
			}
		}
	}
	return server, server.Scheduler != "", nil
}
