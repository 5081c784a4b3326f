package speaker

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/model"
)

const (
	// rivalsMost is how many hosts are remembered of one address: one that makes up addresses must not cost memory.
	rivalsMost = 16
	// rivalsNamed is how many of them a message names.
	rivalsNamed = 3
)

// contested is what is known of an address that this node holds or is to hold.
type contested struct {
	binding model.Binding
	vip     *v1alpha1.VIP
	free    bool              // it may be bound
	found   time.Time         // when it was found free by asking; zero: it was not asked for
	asking  bool              // a probe is under way, or due
	again   time.Time         // when it is to be asked for again; zero: not by itself
	lacking int               // free answers until it is believed to be free again
	rivals  map[string]*rival // the foreign hosts that were heard of lately, by hardware address
}

// rival is a foreign host that uses an address.
type rival struct {
	iface string
	last  time.Time
	uses  bool // and does not only ask for it
}

func (known *contested) message(node string) string {
	if len(known.rivals) == 0 {
		return ""
	}
	var hosts []string
	for _, mac := range slices.Sorted(maps.Keys(known.rivals)) {
		does := "asks for it"
		if known.rivals[mac].uses {
			does = "uses it"
		}
		hosts = append(hosts, fmt.Sprintf("host %s %s (heard on %s of node %s)", mac, does, known.rivals[mac].iface, node))
	}
	if more := len(hosts) - rivalsNamed; more > 0 {
		hosts = append(hosts[:rivalsNamed], fmt.Sprintf("%d more", more))
	}
	state := "it is not announced until it is free"
	if known.free {
		state = "it is announced and defended, but some clients may reach the other host"
	}
	return fmt.Sprintf("address %s is not this cluster's alone: %s; %s. Take it from that host, or out of the pool (IPPool "+
		"spec.exclude)", known.binding.Addr, strings.Join(hosts, ", "), state)
}
