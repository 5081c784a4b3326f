// Package nft keeps the nftables table "inet fairlead" of one network namespace: which addresses are our VIPs, which ports
// of them are open and to whom, and the source translation of what IPVS forwards.
//
// It owns that table, all of it, and never touches another one. The table's sets vips4 and vips6 are the record of what
// Fairlead owns on this host: IPVS services and interface addresses that are not in them are not ours. So a VIP is in them
// from before anything of it exists until after everything of it is gone, and a caller that starts asks Owned before it
// Syncs.
//
// It does not promise to notice a rule that was rewritten by hand under its old comment.
//
// # Rules
//
// A VIP on an interface of the host would expose what listens there: sshd, the kubelet, the NodePorts of every Service.
// All ports of a VIP but those of its frontends are closed, in prerouting, after conntrack (-200) so that replies are
// known, and before dstnat (-100), where kube-proxy would turn a NodePort into something else. ICMP stays open, for ping,
// path MTU discovery and neighbour discovery. What a process of the holder itself sends to a frontend, IPVS takes in its
// output hook: it never comes by here, and source ranges do not apply to it; what it sends to a closed port loops
// through lo and is dropped like everybody's. The rules that close ports look only at VIPs that are local here (fib): what
// the pods and processes of a standby send goes to the holder, which decides.
//
// The rules of others that translate destinations, which may be thousands, are not asked for a connection to a frontend: it gets a
// translation to where it goes anyway, before them.
//
// What IPVS has forwarded is recognised in postrouting by its conntrack entry: it was sent to a VIP, is on its way to
// something else, and no nat rule did that (ct status). No packet marks are used: they belong to kube-proxy and CNIs.
package nft

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"sigs.k8s.io/knftables"

	"github.com/fairlead/fairlead/pkg/model"
)

const tableName = "fairlead"

// State is what the table should say.
type State struct {
	VIPs      []netip.Addr     // that we own: closed but for the frontends, translated
	Frontends []model.Frontend // the open ports
	// SourceRanges restrict the frontends they name to their prefixes, those of the frontend's own address family. They
	// may overlap. A frontend with none is open to everybody.
	SourceRanges []model.SourceRange
	// Translations are the backends that see another source than this node; Inside are the clients of which those that
	// would see the client see this node all the same.
	Translations []model.Translation
	Inside       []netip.Prefix
	// Received are open frontends that this node serves as a backend, Tunnelled those of them whose packets come wrapped: their
	// connections are told to leave room for that.
	Received, Tunnelled []model.Frontend
}

// Table is the table of a network namespace. Its methods run the program nft (1.0.1 or later) and must be called in the
// thread of that namespace. One goroutine may use it at a time, but for Intact, Verify and Divert.
type Table struct {
	nft knftables.Interface
	guard
	forget func(match func(flow) bool) error
}

// New checks that nftables can be used, and has the kernel look at all our rules without taking them.
func New() (*Table, error) {
	nft, err := program(tableName)
	if err != nil {
		return nil, fmt.Errorf("nftables cannot be used: %w (needed: the program nft 1.0.1 or later, a kernel with nf_tables for the inet family, CAP_NET_ADMIN)", err)
	}
	tx := nft.NewTransaction()
	rebuild(tx)
	if err := nft.Check(context.Background(), tx); err != nil {
		return nil, fmt.Errorf("the kernel refuses a rule that Fairlead needs: %w (needed: nf_tables with NAT, conntrack and fib: modules nft_masq, nft_ct, nft_fib_inet)", err)
	}
	marks, err := newMarks(tableName)
	if err != nil {
		return nil, err
	}
	return &Table{nft: nft, guard: guard{marks: marks}, forget: forget}, nil
}

// Owned returns the VIPs in the table, sorted: the record of what is ours on this host. Without the table there are none.
func (t *Table) Owned(ctx context.Context) ([]netip.Addr, error) {
	var owned []netip.Addr
	for _, set := range []string{vips4, vips6} {
		elements, err := t.list(ctx, "set", set)
		if knftables.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read which VIPs are ours: %w", err)
		}
		for _, e := range elements {
			owned = append(owned, e.addr)
		}
	}
	slices.SortFunc(owned, netip.Addr.Compare)
	return owned, nil
}

// Sync reads the table, makes it what is wanted in one transaction, and says whether it had to. Where anything but the
// sets' elements is not as it should be, the whole table is replaced, in that one transaction, and connections that began
// without its rules are forgotten: see flows.go.
func (t *Table) Sync(ctx context.Context, want State) (changed bool, err error) {
	wanted, err := elementsOf(want)
	if err != nil {
		return false, err
	}
	return t.sync(func() (bool, error) {
		have, intact, err := t.read(ctx)
		if err != nil {
			return false, err
		}
		tx := t.nft.NewTransaction()
		if !intact {
			rebuild(tx)
			have = nil
		}
		change(tx, have, wanted)
		changed, err := t.run(ctx, tx)
		if err == nil && !intact {
			err = t.forget(astray(want))
		}
		return changed, err
	})
}

// Verify reports whether the table says what want says, as Sync or Apply left it. It reads the table only if somebody else
// changed a rule of the namespace meanwhile. It may be called beside the other methods, but what it says while Sync or Apply
// works counts for nothing.
func (t *Table) Verify(ctx context.Context, want State) (bool, error) {
	return t.verify(func() (bool, error) {
		wanted, err := elementsOf(want)
		if err != nil {
			return false, err
		}
		have, intact, err := t.read(ctx)
		slices.SortFunc(have, element.compare)
		return intact && slices.Equal(have, wanted), err
	})
}

// Apply changes the table from one state to another, whose lists are in one order and hold nothing twice, in one transaction
// that holds only what differs. It trusts that the table says what from says: if it fails, Sync.
func (t *Table) Apply(ctx context.Context, from, to State) error {
	old, wanted, err := changing(from, to)
	if err != nil {
		return err
	}
	tx := t.nft.NewTransaction()
	change(tx, old, wanted)
	return t.change(func() (bool, error) { return t.run(ctx, tx) })
}

// Delete removes the table. One that is gone is no error.
func (t *Table) Delete(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = nil
	tx := t.nft.NewTransaction()
	tx.Add(&knftables.Table{}) // deleting what is not there fails
	tx.Delete(&knftables.Table{})
	if err := t.nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("delete nftables table inet %s: %w", tableName, err)
	}
	return nil
}

func (t *Table) run(ctx context.Context, tx *knftables.Transaction) (changed bool, err error) {
	if tx.NumOperations() == 0 {
		return false, nil
	}
	if err := t.nft.Run(ctx, tx); err != nil {
		return false, fmt.Errorf("change nftables table inet %s: %w", tableName, err)
	}
	return true, nil
}

// read returns the elements of all sets, and whether the sets and rules are those of the layout. An element that is not
// one of ours to read, such as a range, makes the table not intact.
func (t *Table) read(ctx context.Context) (elements []element, intact bool, err error) {
	if elements, intact, err = t.readAll(ctx); err != nil {
		err = fmt.Errorf("read nftables table inet %s: %w", tableName, err)
	}
	return elements, intact, err
}

func (t *Table) readAll(ctx context.Context) (elements []element, intact bool, err error) {
	rules, err := t.nft.ListRules(ctx, "")
	if knftables.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if !sameRules(rules) {
		return nil, false, nil
	}
	for _, object := range objects() {
		of, err := t.list(ctx, object.kind, object.name)
		var foreign *foreignError
		if knftables.IsNotFound(err) || asForeign(err, &foreign) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		elements = append(elements, of...)
	}
	return elements, true, nil
}

// object is something that has elements: a set or a map.
type object struct{ kind, name string }

func objects() []object {
	out := make([]object, 0, len(sets)+len(maps))
	for _, set := range sets {
		out = append(out, object{"set", set.Name})
	}
	for _, m := range maps {
		out = append(out, object{"map", m.Name})
	}
	return out
}

func (t *Table) list(ctx context.Context, kind, name string) ([]element, error) {
	listed, err := t.nft.ListElements(ctx, kind, name)
	if err != nil {
		return nil, err
	}
	elements := make([]element, 0, len(listed))
	for _, l := range listed {
		e, err := parse(name, l.Key, l.Value)
		if err != nil {
			return nil, err
		}
		elements = append(elements, e)
	}
	return elements, nil
}
