package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/pkg/source"
)

// Gone waits until nothing is left of addresses: no VIP object, no claim, and on no node an address or what answers for one, an
// IPVS service or an element of an nftables set.
func (s *Scenario) Gone(ctx context.Context, addresses ...netip.Addr) error {
	return Until(ctx, func() error {
		for _, addr := range addresses {
			if _, err := s.VIP(ctx, addr); !apierrors.IsNotFound(err) {
				return errors.Join(fmt.Errorf("VIP %s still exists", addr), err)
			}
		}
		claims, err := s.Claims(ctx)
		if err != nil {
			return err
		}
		for _, claim := range claims {
			for _, addr := range addresses {
				if strings.HasSuffix(claim, source.VIPName(addr)) {
					return fmt.Errorf("claim %s still exists", claim)
				}
			}
		}
		nodes, err := s.Nodes(ctx)
		if err != nil {
			return err
		}
		for _, node := range nodes {
			traces, err := Traces(ctx, s.Cluster, node, addresses...)
			if err != nil {
				return err
			}
			if len(traces) > 0 {
				return fmt.Errorf("node %s still has %s", node, strings.Join(traces, ", "))
			}
		}
		return nil
	})
}

// everywhere runs a command on a node and, in isolated placement, in the datapath's network namespace.
func everywhere(command string) string {
	const inside = "/run/fairlead/netns"
	return fmt.Sprintf("%s; if [ -e %s ]; then nsenter --net=%s sh -c '%s'; fi", command, inside, inside, command)
}

// Traces lists what a node's kernel knows of addresses.
func Traces(ctx context.Context, c cluster.Cluster, node string, addresses ...netip.Addr) (traces []string, err error) {
	for _, look := range []struct{ what, command string }{
		{"address", "ip -o addr show; ip neigh show proxy"},
		{"IPVS service", everywhere("ipvsadm -Ln")},
		{"nftables element", everywhere("nft list table inet fairlead 2>/dev/null || true")},
	} {
		text, err := c.Output(ctx, node, "sh", "-c", look.command)
		if err != nil {
			return nil, err
		}
		for _, addr := range addresses {
			if mentions(text, addr) {
				traces = append(traces, look.what+" "+addr.String())
			}
		}
	}
	return traces, nil
}

// mentions reports whether a text names an address, not merely a longer one that begins or ends like it.
func mentions(text string, addr netip.Addr) bool {
	fields := strings.FieldsFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef.:", r) })
	for _, field := range fields {
		if strings.TrimSuffix(field, ":") == addr.String() || strings.HasPrefix(field, addr.String()+":") && addr.Is4() {
			return true
		}
	}
	return false
}
