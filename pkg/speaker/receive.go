package speaker

import (
	"slices"

	"github.com/fairlead/fairlead/pkg/model"
)

// receiveFirst gives this node the VIPs that it is to serve as a backend before it gives them up as their holder: packets
// from the next holder find them.
func (s *step) receiveFirst() {
	if s.applied == nil || len(s.want.Receivers) == 0 || same(s.applied.Receivers, s.want.Receivers) {
		return
	}
	s.receiveAs(slices.Concat(s.applied.Receivers, s.want.Receivers))
}

// receive makes the VIPs that this node has as a backend those wanted, after it has those that it holds.
func (s *step) receive() {
	if s.applied == nil || s.unsure || !same(s.applied.Receivers, s.want.Receivers) {
		s.receiveAs(s.want.Receivers)
	}
}

func (s *step) receiveAs(receivers []model.Receiver) {
	made, err := s.kernel.Addresses.Receive(receivers)
	s.outcome.Writes += made
	if err == nil && len(receivers) > 0 {
		var changed []string
		changed, err = s.kernel.Sysctls.Receive() // a tunnel's device has settings once it is there
		s.outcome.Writes += len(changed)
	}
	if err == nil {
		return
	}
	s.errs = append(s.errs, err)
	for _, receiver := range receivers {
		s.outcome.Failed[receiver.Addr] = err
	}
}

func receives(state model.NodeState, frontend model.Frontend) bool {
	return slices.ContainsFunc(state.Receivers, func(r model.Receiver) bool { return r.Frontend == frontend })
}
