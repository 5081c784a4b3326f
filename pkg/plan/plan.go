// Package plan computes what one node should have in its kernel, and which nodes may hold which VIP, from a snapshot of the
// cluster. It is pure: same snapshot, same answer, on every node.
package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// Snapshot is what a node knows at one moment.
type Snapshot struct {
	// VIPs of the cluster, in the order of their names.
	VIPs []*v1alpha1.VIP
	// Slices gives the EndpointSlices of a Service.
	Slices func(service types.NamespacedName) []*discoveryv1.EndpointSlice
	// Node is the name of this node, Machines are all nodes.
	Node     string
	Machines []Machine
	// Isolated says that the VIPs are in a network namespace of their own.
	Isolated bool
	// Interfaces of this node.
	Interfaces []model.Interface
	// Held names the VIPs that this node has the right to announce.
	Held map[string]bool
	// Down are the targets that are down, as their health checks say.
	Down map[model.Target]bool
	// Had are the servers that this node had until now, in order.
	Had []model.Server
	// Drained tells how long a backend has had no new connections, and whether it has none any more. Nil: since now.
	Drained func(Drain) (since time.Duration, empty bool)

	addresses []netip.Addr     // of this node, among those of Machines
	machines  func() []Machine // Machines, for the plan of a VIP
}

// Result is the wanted state with what users ask about it.
type Result struct {
	State model.NodeState
	// Parts of the VIPs, in the order of their names.
	Parts []*Part
	// Draining are the backends that keep their connections until they end, and those that are down for a while yet.
	Draining []Drain
	// Overdue are those that this plan removes because their time is over.
	Overdue []Drain
	// Again is when the plan is to be made again although nothing changed but the time; 0: never.
	Again time.Duration
}

// Count is a number of backends that are ready, of all there are. Those that get connections for want of better ones,
// although their health check fails, are not ready.
type Count struct{ Ready, All int }

func (c Count) String() string { return fmt.Sprintf("%d/%d", c.Ready, c.All) }

// Checked is a backend with its health check.
type Checked struct {
	Backend netip.AddrPort
	Target  model.Target
	Down    bool
}

// Node computes the state of the node that the snapshot was taken on.
func Node(snapshot Snapshot) Result { return new(Planner).Node(snapshot) }

// had gives the backends that this node had for a frontend until now, in order; false if it had none of the frontend.
func (s *Snapshot) had(frontend model.Frontend) ([]model.Backend, bool) {
	i, found := slices.BinarySearchFunc(s.Had, frontend, func(s model.Server, f model.Frontend) int { return s.Compare(f) })
	if !found {
		return nil, false
	}
	return s.Had[i].Backends, true
}

// findOwn notes what the plan of every VIP asks of this node.
func (s *Snapshot) findOwn() {
	if i := slices.IndexFunc(s.Machines, func(m Machine) bool { return m.Name == s.Node }); i >= 0 {
		s.addresses = s.Machines[i].Addresses
	}
}

func (r *Part) add(snapshot *Snapshot, vip *v1alpha1.VIP) error {
	addr, err := netip.ParseAddr(vip.Spec.Address)
	if err != nil {
		return fmt.Errorf("VIP %s: spec.address %q is not an address: delete the object", vip.Name, vip.Spec.Address)
	}
	r.State.VIPs = append(r.State.VIPs, addr)
	var problems []error
	seen := map[Checked]bool{}
	for i := range vip.Spec.Frontends {
		frontend := &vip.Spec.Frontends[i]
		if port := frontend.HealthCheckNodePort; port != 0 {
			service := serviceOf(frontend)
			r.Local = append(r.Local, Local{Port: port, Service: service, Pods: localPods(snapshot.Slices(service), snapshot.Node)})
		}
		planned, err := snapshot.frontend(vip.Name, addr, frontend)
		if err != nil {
			problems = append(problems, fmt.Errorf("VIP %s: port %d/%s stays closed: %w", vip.Name, frontend.Port, frontend.Protocol, err))
			continue
		}
		if planned.unchecked != nil {
			problems = append(problems, fmt.Errorf("VIP %s: the backends of port %d/%s are not checked: %w",
				vip.Name, frontend.Port, frontend.Protocol, planned.unchecked))
		}
		if planned.masqueraded != nil {
			problems = append(problems, fmt.Errorf("VIP %s: port %d/%s is masqueraded: %w",
				vip.Name, frontend.Port, frontend.Protocol, planned.masqueraded))
		}
		r.Backends.All += planned.count.All
		r.Backends.Ready += planned.count.Ready
		planned.enter(r)
		if planned.short != nil {
			r.Short = append(r.Short, *planned.short)
		}
		for _, checked := range planned.checked {
			if !seen[checked] {
				seen[checked] = true
				r.Checked = append(r.Checked, checked)
			}
		}
	}
	if snapshot.Held[vip.Name] {
		name, err := Interface(snapshot.Interfaces, addr, vip.Spec.Interfaces)
		if err != nil {
			problems = append(problems, err)
		} else {
			r.State.Bindings = append(r.State.Bindings, model.Binding{Addr: addr, Interface: name})
		}
	}
	return errors.Join(problems...)
}

// planned is what becomes of one frontend.
type planned struct {
	server       model.Server
	receiver     *model.Receiver // of a backend: the server is its holder's
	translations []model.Translation
	inside       []netip.Prefix
	ranges       []model.SourceRange
	count        Count
	checked      []Checked
	unchecked    error // why its health check cannot be made
	masqueraded  error // why its packets are not forwarded as was asked for
	short        *Short
	draining     []Drain
	overdue      []Drain
	again        time.Duration // when time alone changes it; 0: never
}

// enter puts a frontend into its VIP's part. What this node does not balance does not drain here.
func (p planned) enter(r *Part) {
	state := &r.State
	state.SourceRanges = append(state.SourceRanges, p.ranges...)
	if p.receiver != nil {
		state.Receivers = append(state.Receivers, *p.receiver)
		return
	}
	state.Servers = append(state.Servers, p.server)
	state.Translations = append(state.Translations, p.translations...)
	state.Inside = append(state.Inside, p.inside...)
	r.draining, r.overdue = append(r.draining, p.draining...), append(r.overdue, p.overdue...)
	r.again = sooner(r.again, p.again)
}

func keyOf(addr netip.Addr, frontend *v1alpha1.Frontend) model.Frontend {
	return model.Frontend{Addr: addr, Port: uint16(frontend.Port), Proto: model.Protocol(frontend.Protocol)}
}

// frontend plans one frontend of the VIP that is named. With an error it is to be left out: it would not do what was asked for.
func (s *Snapshot) frontend(vip string, addr netip.Addr, frontend *v1alpha1.Frontend) (planned, error) {
	key := keyOf(addr, frontend)
	scheduler, errScheduler := schedulerOf(frontend)
	ranges, errRanges := s.sourceRanges(key, frontend.SourceRanges)
	members, errBackends := s.members(addr, frontend)
	if err := errors.Join(errScheduler, errRanges, errBackends); err != nil {
		return planned{}, err
	}
	out := planned{
		server: model.Server{Frontend: key, Scheduler: scheduler, Persistence: uint32(frontend.AffinitySeconds)}, ranges: ranges,
	}
	check, wanted, err := checkOf(frontend)
	out.unchecked = err
	if wanted {
		out.checked = s.judge(members, check, uint16(frontend.HealthCheck.Port))
	}
	if err := out.share(s, frontend, members); err != nil {
		return planned{}, err
	}
	forwarding, err := s.forwarding(frontend, members)
	out.masqueraded = err
	dress(out.server.Backends, members, frontend, forwarding)
	if forwarding == model.Masquerade {
		source := s.source(frontend, addr)
		out.translations = translations(key, out.server.Backends, source)
		out.inside = s.inside(addr, source, out.server.Backends)
	} else if !s.Held[vip] {
		out.receiver = s.receiver(key, forwarding, members)
	}
	return out, nil
}

// sourceRanges are those of the frontend's family. Ranges of the other family alone are an error: nobody of this one may
// connect, and no range would mean everybody.
func (s *Snapshot) sourceRanges(frontend model.Frontend, cidrs []string) ([]model.SourceRange, error) {
	var out []model.SourceRange
	own := false
	for _, cidr := range cidrs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return nil, fmt.Errorf("source range %q is not a CIDR", cidr)
		}
		if prefix.Addr().Is4() == frontend.Addr.Is4() {
			out = append(out, model.SourceRange{Frontend: frontend, Prefix: prefix.Masked()})
			own = own || s.ownWithin(prefix)
		}
	}
	if own {
		for _, prefix := range s.isolatedHost(frontend.Addr) {
			out = append(out, model.SourceRange{Frontend: frontend, Prefix: prefix})
		}
	}
	if len(cidrs) > 0 && len(out) == 0 {
		return nil, fmt.Errorf("no source range is of its address family: %s", strings.Join(cidrs, ", "))
	}
	return out, nil
}
