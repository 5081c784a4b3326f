package host

import (
	"errors"
	"io/fs"
	"slices"
)

// receiving are the settings of a node that has VIPs as a backend, without announcing them (ip-sysctl.rst).
var receiving = []setting{
	{"ipv4/conf/all/arp_ignore", "1", "this node does not answer for VIPs that another one announces", ""},
	{"ipv4/conf/all/arp_announce", "2", "this node does not ask for neighbours in the name of VIPs that another one announces", ""},
}

// loose makes the devices of tunnels take packets of clients whose way back is another one.
var loose = []setting{
	{"ipv4/conf/tunl0/rp_filter", "2", "packets that come wrapped are answered past the tunnel", ""},
	{"ipv4/conf/ip6tnl0/rp_filter", "2", "packets that come wrapped are answered past the tunnel", ""},
}

// Receive sets what a node needs that has VIPs as a backend: the client's packets come to it by way of their holder, or of a
// tunnel, and it answers past both. Like Apply it returns the names of what it changed.
func (s *Sysctls) Receive() (changed []string, err error) {
	wanted := slices.Clone(receiving)
	for _, setting := range loose {
		if _, err := s.read(setting.path); !errors.Is(err, fs.ErrNotExist) {
			wanted = append(wanted, setting)
		}
	}
	return s.setAll(wanted)
}
