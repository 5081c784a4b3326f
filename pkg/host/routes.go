package host

import (
	"slices"
	"strconv"
	"strings"
)

// routeAddrconf is RTF_ADDRCONF (linux/ipv6_route.h): the kernel made the route from a router advertisement.
const routeAddrconf = 0x00040000

// Columns of /proc/net/ipv6_route (net/ipv6/route.c, rt6_info_route): destination, its prefix length, source, its prefix
// length, next hop, metric, reference count, use count, flags, interface.
const (
	routeColumns = 10
	routeFlags   = 8
	routeDevice  = 9
)

// parseAdvertised returns the interfaces, sorted, with at least one route from a router advertisement. Lines that it cannot
// read it skips.
func parseAdvertised(table string) []string {
	var names []string
	for line := range strings.Lines(table) {
		columns := strings.Fields(line)
		if len(columns) != routeColumns {
			continue
		}
		flags, err := strconv.ParseUint(columns[routeFlags], 16, 32)
		if err == nil && flags&routeAddrconf != 0 && !strings.ContainsRune(columns[routeDevice], '/') {
			names = append(names, columns[routeDevice])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
