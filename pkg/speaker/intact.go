package speaker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/pkg/ipvs"
	"github.com/fairlead/fairlead/pkg/model"
	"github.com/fairlead/fairlead/pkg/nft"
)

// A node is not ours alone: kube-proxy, other users of IPVS, network managers and people at a shell remove or change what
// Apply left in the kernel. Look notices that in a quarter of a second and at next to no cost; the next Apply, made to read
// everything, finds out what it was, puts it back, and tells of it as repairs. What Look does not see, backends and elements
// of sets, Compare finds with each resync.

// layer is a kind of kernel state, as metrics and messages name it.
type layer string

const (
	layerSysctls   layer = "sysctls"
	layerNFTables  layer = "nftables"
	layerIPVS      layer = "ipvs"
	layerAddresses layer = "addresses"
)

var layers = []layer{layerSysctls, layerNFTables, layerIPVS, layerAddresses}

// repair is what somebody else had undone of a layer, and was done again.
type repair struct {
	count   int
	example string
}

// Repairs by layer.
type Repairs map[layer]repair

func (r Repairs) add(of layer, example string) {
	now := r[of]
	if now.count++; now.count == 1 {
		now.example = example
	}
	r[of] = now
}

// dumpShare bounds what listing the IPVS services costs: after a list that took 10 ms, the next comes 500 ms later.
const dumpShare = 50

// expectation is what Look and Compare compare the kernel with.
type expectation struct {
	servers []model.Server
	table   nft.State
}

// expect sets it; nil while the kernel changes or is not known.
func (d *Datapath) expect(want *expectation) {
	d.expecting.Lock()
	defer d.expecting.Unlock()
	d.expected = want
}

func (d *Datapath) expectation() *expectation {
	d.expecting.Lock()
	defer d.expecting.Unlock()
	return d.expected
}

// Look says which layer seems not to be as Apply left it; "" for none. It says that too where it cannot look and while Apply
// works: the next look or the resync tells. One goroutine may call it and MendSysctls, beside the one that calls Apply.
func (d *Datapath) Look() (damaged layer) {
	expected := d.expectation()
	if expected == nil {
		return ""
	}
	if table, err := d.kernel.Table.Intact(); err == nil && !table {
		damaged = layerNFTables
	} else if !d.serversIntact(expected.servers) {
		damaged = layerIPVS
	}
	if d.expectation() != expected {
		return ""
	}
	return damaged
}

// Compare is Look at all of the table and of the IPVS services. To read them takes seconds where there are thousands, or processors
// are scarce: it may be called beside Apply and Look, and neither waits for it.
func (d *Datapath) Compare(ctx context.Context) (damaged layer) {
	expected := d.expectation()
	if expected == nil {
		return ""
	}
	// What cannot be read is damaged, too: the Apply that fails alike tells why.
	if asWanted, err := d.kernel.Table.Verify(ctx, expected.table); err != nil || !asWanted {
		damaged = layerNFTables
	} else if have, err := d.kernel.Servers.Servers(); err != nil || len(ipvs.Diff(expected.servers, have, expected.owned)) > 0 {
		damaged = layerIPVS
	}
	if d.expectation() != expected {
		return ""
	}
	return damaged
}

// owned reports whether an address is one of the VIPs.
func (e *expectation) owned(addr netip.Addr) bool {
	_, found := slices.BinarySearchFunc(e.table.VIPs, addr, netip.Addr.Compare)
	return found
}

// serversIntact looks for the first and the last IPVS service, which are of both families if there are both, since others
// empty the whole table or that of a family; and for all of them as often as dumpShare allows.
func (d *Datapath) serversIntact(want []model.Server) bool {
	if len(want) == 0 {
		return true
	}
	for _, server := range []model.Server{want[0], want[len(want)-1]} {
		if _, found, err := d.kernel.Servers.Server(server.Frontend); err == nil && !found {
			return false
		}
	}
	started := time.Now()
	if started.Before(d.nextDump) {
		return true
	}
	have, err := d.kernel.Servers.Frontends()
	d.nextDump = started.Add(dumpShare * time.Since(started))
	if err != nil {
		return true
	}
	for _, server := range want {
		i, found := slices.BinarySearchFunc(have, server.Frontend, model.Frontend.Compare)
		if !found {
			return false
		}
		have = have[i+1:]
	}
	return true
}

// MendSysctls sets the sysctls again that somebody else changed after Apply had set them, and returns them.
func (d *Datapath) MendSysctls() (Repairs, error) {
	repairs := Repairs{}
	if d.expectation() == nil {
		return repairs, nil
	}
	changed, err := d.applySysctls()
	for _, name := range changed {
		repairs.add(layerSysctls, name)
	}
	return repairs, err
}

func (d *Datapath) applySysctls() ([]string, error) {
	d.sysctls.Lock()
	defer d.sysctls.Unlock()
	return d.kernel.Sysctls.Apply()
}

// The following tell repairs from work: what had to be done although the kernel had been made so before.

func (s *step) repairedSysctls(changed []string) {
	if s.before != nil && len(changed) > 0 {
		s.outcome.Repairs.add(layerSysctls, strings.Join(changed, ", "))
	}
}

func (s *step) repairedServers(changes []ipvs.Change) {
	before := cmp.Or(s.before, s.applied)
	if before == nil {
		return
	}
	for _, change := range changes {
		then, had := slices.BinarySearchFunc(before.Servers, change.Frontend, compareServer)
		now, wants := slices.BinarySearchFunc(s.want.Servers, change.Frontend, compareServer)
		if had && wants && before.Servers[then].Equal(s.want.Servers[now]) {
			s.outcome.Repairs.add(layerIPVS, change.String())
		}
	}
}

func (s *step) repairedTable() { s.outcome.Repairs.add(layerNFTables, "table inet fairlead") }

// repairedBinding tells of a VIP that was bound, is not, and whose lifetime cannot have ended. The caller holds mu.
func (s *step) repairedBinding(binding model.Binding) {
	if slices.Contains(s.outcome.Bound, binding) && time.Now().Before(s.livesUntil) {
		s.outcome.Repairs.add(layerAddresses, inWords(binding))
	}
}

// removed are the VIPs that were bound, are nowhere, and whose lifetime cannot have ended. The caller holds mu.
func (d *Datapath) removed(have []model.Binding) []model.Binding {
	if !time.Now().Before(d.livesUntil) {
		return nil
	}
	there := make(map[netip.Addr]bool, len(have))
	for _, binding := range have {
		there[binding.Addr] = true
	}
	return slices.DeleteFunc(slices.Clone(d.bound), func(b model.Binding) bool { return there[b.Addr] })
}

func inWords(b model.Binding) string { return fmt.Sprintf("%s on %s", b.Addr, b.Interface) }
