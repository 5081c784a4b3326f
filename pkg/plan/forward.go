package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// forwarding decides how the packets of a frontend get to its backends. What was asked for and cannot be is masqueraded, with
// an error that says why: connections that show another client address are better than none.
func (s *Snapshot) forwarding(frontend *v1alpha1.Frontend, members []member) (model.Forwarding, error) {
	var forwarding model.Forwarding
	switch frontend.Forwarding {
	case "", v1alpha1.ForwardMasquerade:
		return model.Masquerade, nil
	case v1alpha1.ForwardDirect:
		forwarding = model.Direct
	case v1alpha1.ForwardTunnel:
		forwarding = model.Tunnel
	default:
		return model.Masquerade, fmt.Errorf("forwarding %q is not one of Masquerade, Direct, Tunnel: set it to one of them in the pool or by annotation fairlead.dev/forwarding", frontend.Forwarding)
	}
	if s.Isolated {
		return model.Masquerade, fmt.Errorf("forwarding %s does not work from an isolated network namespace: run the speakers with --placement=host", frontend.Forwarding)
	}
	for _, m := range members {
		if m.addr.Port() != uint16(frontend.Port) {
			return model.Masquerade, fmt.Errorf("forwarding %s leaves the port as it is, and backend %s listens on another one: use one port for both, or forwarding Masquerade",
				frontend.Forwarding, m.addr)
		}
		if !s.isNode(frontend, m) {
			return model.Masquerade, fmt.Errorf("forwarding %s needs backends that have the VIP themselves, and %s is a pod: use backends of kind Nodes or pods on the host's network, or forwarding Masquerade",
				frontend.Forwarding, m.addr)
		}
	}
	return forwarding, nil
}

// isNode reports whether a backend is a node, whose speaker gives it the VIP, or a listed address, to which its user does.
func (s *Snapshot) isNode(frontend *v1alpha1.Frontend, m member) bool {
	if !onPods(frontend) {
		return frontend.Backends.Kind != v1alpha1.BackendNodePort
	}
	return slices.ContainsFunc(s.machines(), func(machine Machine) bool {
		return machine.Name == m.node && slices.Contains(machine.Addresses, m.addr.Addr())
	})
}

// own reports whether an address is one of this node's.
func (s *Snapshot) own(addr netip.Addr) bool { return slices.Contains(s.addresses, addr) }

// receiver is what this node is to a frontend as one of its backends, nil if it is none. What it is sent for the VIP is for its
// sockets: its IPVS would send it on, in a circle. Whether it gets connections is for the holder to say.
func (s *Snapshot) receiver(key model.Frontend, forwarding model.Forwarding, members []member) *model.Receiver {
	i := slices.IndexFunc(members, func(m member) bool { return m.standing != absent && s.own(m.addr.Addr()) })
	if i < 0 {
		return nil
	}
	receiver := model.Receiver{Frontend: key}
	if forwarding == model.Tunnel {
		receiver.Wrapped = members[i].addr.Addr()
	}
	return &receiver
}

// source is whose address the backends of a frontend see. The VIP, where its network is that of the node: answers to it find
// their way to its holder from wherever the node's own do.
func (s *Snapshot) source(frontend *v1alpha1.Frontend, vip netip.Addr) model.Source {
	switch {
	case onPods(frontend) && isLocal(frontend):
		return model.FromClient
	case onPods(frontend):
		return model.FromNode
	}
	for _, candidate := range s.Interfaces {
		if slices.ContainsFunc(candidate.Prefixes, func(p netip.Prefix) bool { return p.Contains(vip) }) {
			return model.FromVIP
		}
	}
	return model.FromNode
}

// translations list the sources of what goes to backends, where it is not the node's address.
func translations(key model.Frontend, backends []model.Backend, source model.Source) (out []model.Translation) {
	if source == model.FromNode {
		return nil
	}
	for _, backend := range backends {
		if backend.Forwarding == model.Masquerade {
			out = append(out, model.Translation{VIP: key.Addr, Proto: key.Proto, Backend: backend.Addr, Source: source})
		}
	}
	return out
}

// inside are the networks and addresses from which connections to local pods do not come by way of this node's IPVS when they
// are answered: other pods, that one may reach past it, and the pods themselves.
func (s *Snapshot) inside(vip netip.Addr, source model.Source, backends []model.Backend) (out []netip.Prefix) {
	if source != model.FromClient {
		return nil
	}
	for _, machine := range s.machines() {
		for _, network := range machine.PodNetworks {
			if network.Addr().Is4() == vip.Is4() {
				out = append(out, network)
			}
		}
	}
	for _, backend := range backends {
		out = append(out, netip.PrefixFrom(backend.Addr.Addr(), backend.Addr.Addr().BitLen()))
	}
	return append(out, s.isolatedHost(vip)...)
}

// dress gives members what their frontend says of them besides whether they get connections. The last resort is masqueraded,
// and what only drains stays as it was.
func dress(backends []model.Backend, members []member, frontend *v1alpha1.Frontend, forwarding model.Forwarding) {
	weights := weightsOf(members, frontend.Backends)
	for i, backend := range backends {
		if _, isMember := slices.BinarySearchFunc(members, backend, func(m member, b model.Backend) int { return m.addr.Compare(b.Addr) }); !isMember {
			continue
		}
		backends[i].Forwarding = forwarding
		if weight, named := weights[backend.Addr]; named {
			backends[i].Weight *= weight
		}
		if frontend.Backends != nil {
			backends[i].MaxConnections = uint32(frontend.Backends.MaxConnections)
		}
	}
}

// weightsOf are the weights of the members that are named, by their node or their address.
func weightsOf(members []member, backends *v1alpha1.Backends) map[netip.AddrPort]uint16 {
	if backends == nil || len(backends.Weights) == 0 {
		return nil
	}
	byAddr := map[netip.Addr]uint16{}
	for name, weight := range backends.Weights {
		if addr, err := netip.ParseAddr(name); err == nil {
			byAddr[addr] = uint16(weight)
		}
	}
	out := map[netip.AddrPort]uint16{}
	for _, m := range members {
		if weight, named := backends.Weights[m.node]; named && m.node != "" {
			out[m.addr] = uint16(weight)
		} else if weight, named := byAddr[m.addr.Addr()]; named {
			out[m.addr] = weight
		}
	}
	return out
}
