package speaker

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"

	"github.com/fairlead/fairlead/pkg/netif"
)

const (
	// glanceEvery is how often the kernel is looked at for what others did. What they undo is done again within a second:
	// this, gatherFor, and reading everything.
	glanceEvery = 250 * time.Millisecond
	// sysctlsEvery is how many looks there are to one at the sysctls, about ten files.
	sysctlsEvery = 4
	// blameEvery is how often one layer's repairs make an event: who does damage often does so all day.
	blameEvery = time.Minute
	// reasonRepaired is that of the events.
	reasonRepaired = "Repaired"
)

// proxyInterface is what kube-proxy has in ipvs mode, and in no other (pkg/proxy/ipvs/proxier.go, defaultDummyDevice).
const proxyInterface = "kube-ipvs0"

// remedies say, in an event, what was undone and who is known to do so.
var remedies = map[layer]string{
	layerSysctls: "somebody changed sysctls that Fairlead needs, and they were set again: look in /etc/sysctl.d and at what " +
		"tunes this node. The speaker's log names them",
	layerNFTables: "somebody deleted or changed nftables table inet fairlead, without which closed ports of VIPs are open and " +
		"backends answer past this node. It was restored: look for what runs nft flush ruleset (nftables.service does, when " +
		"it starts or reloads)",
	layerIPVS: "somebody removed or changed IPVS services of VIPs, and they were restored: kube-proxy does so when it starts in " +
		"nftables mode; other programs that use IPVS, and ipvsadm -C, do too",
	layerAddresses: "somebody removed VIPs from their interface, and they were bound again: look for what manages the addresses " +
		"of this node",
}

// remedyProxy is that for layerIPVS where kube-proxy is known to be the one.
const remedyProxy = "kube-proxy in ipvs mode (interface " + proxyInterface + ") removes the IPVS services of VIPs at every sync. They " +
	"were restored, but connections fail meanwhile: give kube-proxy the addresses of all IPPools as --ipvs-exclude-cidrs, and " +
	"--nodeport-addresses=primary (KubeProxyConfiguration: ipvs.excludeCIDRs, nodePortAddresses)"

// blame tells what others undid: by a metric each time, in the log each time, by an event about the Node now and then. It is
// the Node's and not the VIPs', since all of them are hit at once, and what is to be changed is on the node.
type blame struct {
	config Config
	nodes  func() []*corev1.Node

	mu   sync.Mutex
	told map[layer]time.Time
}

func newBlame(config Config, nodes func() []*corev1.Node) *blame {
	return &blame{config: config, nodes: nodes, told: map[layer]time.Time{}}
}

func (b *blame) tell(ctx context.Context, repairs Repairs) {
	for _, of := range layers {
		repair, repaired := repairs[of]
		if !repaired {
			continue
		}
		b.config.Metrics.repairs.WithLabelValues(string(of)).Inc()
		remedy := b.remedy(of)
		klog.FromContext(ctx).Info("Somebody undid what this speaker did, and it was done again", "layer", of,
			"things", repair.count, "first", repair.example, "remedy", remedy)
		if b.due(of) {
			b.config.Recorder.Event(b.node(), corev1.EventTypeWarning, reasonRepaired, "node "+b.config.Node+": "+remedy)
		}
	}
}

// due reports whether a layer's repairs are to make an event again.
func (b *blame) due(of layer) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if last, told := b.told[of]; told && now.Sub(last) < blameEvery {
		return false
	}
	b.told[of] = now
	return true
}

func (b *blame) remedy(of layer) string {
	if of == layerIPVS {
		interfaces, err := b.config.Kernel.Addresses.Interfaces()
		isProxy := func(i netif.Interface) bool { return i.Name == proxyInterface }
		if err == nil && slices.ContainsFunc(interfaces, isProxy) {
			return remedyProxy
		}
	}
	return remedies[of]
}

// node is this node's object; should it be unknown, its name.
func (b *blame) node() *corev1.Node {
	for _, node := range b.nodes() {
		if node.Name == b.config.Node {
			return node
		}
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: b.config.Node}}
}

// look asks at a steady pace whether the kernel still is as it was left, and has it read and repaired if not.
func (s *Speaker) look(ctx context.Context) {
	ticker := time.NewTicker(glanceEvery)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.distrustLayer(s.datapath.Look())
		if n%sysctlsEvery != 0 {
			continue
		}
		repairs, err := s.datapath.MendSysctls()
		s.blame.tell(ctx, repairs)
		if err != nil { // the next Apply fails alike, and says so
			s.distrust.Store(true)
			s.Notify()
		}
	}
}

// resync has everything compared with the plan. What takes long to read is read here and not by the loop, in which who takes up a
// VIP would wait for it.
func (s *Speaker) resync(ctx context.Context) {
	s.datapath.DoubtAddresses()
	s.interfacesChanged.Store(true)
	s.Notify()
	s.distrustLayer(s.datapath.Compare(ctx))
}

// distrustLayer has what seems damaged read and repaired; "" is nothing.
func (s *Speaker) distrustLayer(damaged layer) {
	switch damaged {
	case "":
		return
	case layerIPVS:
		s.doubt.Store(true)
	default:
		s.distrust.Store(true)
	}
	s.Notify()
}
