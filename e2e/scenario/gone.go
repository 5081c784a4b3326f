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
			traces, err := look(ctx, s.Cluster, node, append(kernel, state{"proxy neighbour entry", "ip neigh show proxy"}), addresses)
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

// state is a kind of kernel state, with the command that lists it.
type state struct{ what, command string }

// kernel is what a node may know of an address. An address in isolated placement is one that the host answers for, while the
// fence holds.
var kernel = []state{
	{"address", "ip -o addr show; ip -4 route show dev fl-h 2>/dev/null; " +
		"if nft list set inet fairlead-outside live 2>/dev/null | grep -q expires; then ip -6 neigh show proxy; fi"},
	{"IPVS service", Everywhere("ipvsadm -Ln")},
	{"nftables element", Everywhere("nft list table inet fairlead 2>/dev/null || true")},
}

// Traces lists what a node's kernel knows of addresses.
func Traces(ctx context.Context, c cluster.Cluster, node string, addresses ...netip.Addr) (traces []string, err error) {
	return look(ctx, c, node, kernel, addresses)
}

func look(ctx context.Context, c cluster.Cluster, node string, states []state, addresses []netip.Addr) (traces []string, err error) {
	for _, state := range states {
		text, err := c.Output(ctx, node, "sh", "-c", state.command)
		if err != nil {
			return nil, err
		}
		for _, addr := range addresses {
			if Mentions(text, addr) {
				traces = append(traces, state.what+" "+addr.String())
			}
		}
	}
	return traces, nil
}

// Mentions reports whether a text names an address, not merely a longer one that begins or ends like it.
func Mentions(text string, addr netip.Addr) bool {
	fields := strings.FieldsFunc(text, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef.:", r) })
	for _, field := range fields {
		if strings.TrimSuffix(field, ":") == addr.String() || strings.HasPrefix(field, addr.String()+":") && addr.Is4() {
			return true
		}
	}
	return false
}
