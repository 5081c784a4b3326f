package health

import (
	"maps"

	"github.com/fairlead/fairlead/pkg/model"
)

// downs is a set of targets that is copied only where it changes after it was handed out. The zero downs is empty.
type downs struct {
	targets map[model.Target]bool
	shared  bool
}

// share hands the set out.
func (d *downs) share() map[model.Target]bool {
	d.shared = true
	return d.targets
}

func (d *downs) set(target model.Target, down bool) {
	if d.targets[target] == down {
		return
	}
	if d.shared || d.targets == nil {
		d.targets, d.shared = maps.Clone(d.targets), false
	}
	if d.targets == nil {
		d.targets = map[model.Target]bool{}
	}
	if down {
		d.targets[target] = true
	} else {
		delete(d.targets, target)
	}
}
