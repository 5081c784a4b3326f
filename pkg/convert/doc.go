// Package convert turns the resources of other load balancers into Fairlead's: address pools become IPPools, claims of
// addresses become VIPs, and the map of addresses to Services of kube-keepalived-vip becomes the one that Fairlead reads.
//
// It is pure: text in, objects and notes out. It owns the knowledge of what the others' fields mean, one file for each of
// them. A limit that they set is never dropped: what cannot be said exactly is said more narrowly, or left out, and noted. It
// does not promise that pools share no addresses, only that it notes where they do.
package convert
