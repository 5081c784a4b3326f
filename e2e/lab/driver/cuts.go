package driver

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

// The sets of ports that the fabric takes nothing from, and that it gives nothing to.
const mute, deaf = "mute", "deaf"

// cutSets are the sets that a node's port is in while it is cut from the LAN.
var cutSets = map[cluster.FaultKind][]string{
	cluster.CutLAN:       {mute, deaf},
	cluster.CutSending:   {mute},
	cluster.CutReceiving: {deaf},
}

// lanRules are the fabric's: what enters or leaves a cut port by the bridge is dropped, what the fabric itself sends and
// receives there (the way to the API server) is not.
func lanRules() io.Reader {
	return strings.NewReader(`table bridge lab {
	set ` + mute + ` { type ifname; }
	set ` + deaf + ` { type ifname; }
	chain forward {
		type filter hook forward priority 0;
		iifname @` + mute + ` drop
		oifname @` + deaf + ` drop
	}
}
`)
}

// apiRules drop on a node what goes to the API server and comes from it.
func (d *Driver) apiRules() io.Reader {
	var in, out strings.Builder
	for _, a := range topology.Addresses(d.config.Families.API()) {
		family := "ip6"
		if a.Is4() {
			family = "ip"
		}
		fmt.Fprintf(&in, "\t\t%s saddr %s drop\n", family, a)
		fmt.Fprintf(&out, "\t\t%s daddr %s drop\n", family, a)
	}
	chain := "\tchain %s {\n\t\ttype filter hook %s priority 0;\n%s\t}\n"
	return strings.NewReader("table inet lab {\n" +
		fmt.Sprintf(chain, "input", "input", in.String()) + fmt.Sprintf(chain, "output", "output", out.String()) +
		fmt.Sprintf(chain, "forward", "forward", in.String()+out.String()) + "}\n")
}

func (d *Driver) cutAPI(ctx context.Context, n *node) error {
	if n.noAPI {
		return nil
	}
	if err := d.do(ctx, n.name, d.apiRules(), "nft", "-f", "-"); err != nil {
		return err
	}
	n.noAPI = true
	return nil
}

// cut returns what keeps a node from the LAN.
func (d *Driver) cut(kind cluster.FaultKind) func(context.Context, *node) error {
	return func(ctx context.Context, n *node) error {
		if n.cuts[kind] {
			return nil
		}
		n.cuts[kind] = true
		return d.setPort(ctx, "add", n, kind)
	}
}

func (d *Driver) setPort(ctx context.Context, verb string, n *node, kind cluster.FaultKind) error {
	for _, set := range cutSets[kind] {
		element := fmt.Sprintf("{ %q }", topology.Port(n.name))
		if err := d.do(ctx, topology.Fabric, nil, "nft", verb, "element", "bridge", "lab", set, element); err != nil {
			return err
		}
	}
	return nil
}

// cutCarrier takes the other end of a node's cable down.
func (d *Driver) cutCarrier(ctx context.Context, n *node) error {
	if n.noCarrier {
		return nil
	}
	if err := d.do(ctx, topology.Fabric, nil, "ip", "link", "set", topology.Port(n.name), "down"); err != nil {
		return err
	}
	n.noCarrier = true
	return nil
}

// heal undoes every fault of a node.
func (d *Driver) heal(ctx context.Context, n *node) error {
	for kind := range n.cuts {
		delete(n.cuts, kind)
		if err := d.setPort(ctx, "delete", n, kind); err != nil {
			return err
		}
	}
	if n.off {
		return d.powerOn(ctx, n)
	}
	if n.noCarrier {
		if err := d.do(ctx, topology.Fabric, nil, "ip", "link", "set", topology.Port(n.name), "up"); err != nil {
			return err
		}
		n.noCarrier = false
	}
	if n.noAPI {
		if err := d.do(ctx, n.name, nil, "nft", "delete", "table", "inet", "lab"); err != nil {
			return err
		}
		n.noAPI = false
	}
	return start(n.services)
}
