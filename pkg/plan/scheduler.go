package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

// schedulers are those of IPVS that have no flags (ipvsadm(8)).
var schedulers = []v1alpha1.Scheduler{"rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sed", "nq", "fo", "ovf"}

// schedulerOf is the kernel's scheduler of a frontend. With session affinity mh goes by the client's address alone: another
// node that takes over has not the first one's memory of clients, and maps them alike all the same.
func schedulerOf(frontend *v1alpha1.Frontend) (model.Scheduler, error) {
	name := frontend.Scheduler
	switch {
	case name == "" || string(name) == model.MaglevByPort.Name:
		if frontend.AffinitySeconds > 0 {
			return model.Maglev, nil
		}
		return model.MaglevByPort, nil
	case string(name) == model.SourceHash.Name:
		return model.SourceHash, nil
	case slices.Contains(schedulers, name):
		return model.Scheduler{Name: string(name)}, nil
	}
	known := []string{model.MaglevByPort.Name, model.SourceHash.Name}
	for _, scheduler := range schedulers {
		known = append(known, string(scheduler))
	}
	return model.Scheduler{}, fmt.Errorf("scheduler %q is not one of %s: set spec.scheduler of the pool to one of them",
		name, strings.Join(known, ", "))
}
