package machine

import "net/netip"

// Host describes a host: a network namespace, and what is its own besides.
type Host struct {
	Name string `json:"name"`
	// Private gives it a host name, a /run and a /sys of its own, as a machine has them.
	Private bool    `json:"private,omitempty"`
	Network Network `json:"network"`
}

// Network is what Configure makes of a host's network, in this order.
type Network struct {
	Sysctls   []Sysctl  `json:"sysctls,omitempty"`
	Links     []Link    `json:"links,omitempty"`
	Addresses []Address `json:"addresses,omitempty"`
	Routes    []Route   `json:"routes,omitempty"`
}

// Sysctl is a file below /proc/sys and its value.
type Sysctl struct {
	Path  string `json:"path"`
	Value string `json:"value"`
}

// LinkKind says how a link is made.
type LinkKind string

// The kinds of links.
const (
	Existing LinkKind = ""
	Veth     LinkKind = "veth"
	Bridge   LinkKind = "bridge"
	Tap      LinkKind = "tap"
)

// Link is an interface to create, if it is of a kind, and to bring up.
type Link struct {
	Name string   `json:"name"`
	Kind LinkKind `json:"kind,omitempty"`
	// MAC is fixed so that a host that comes back is the same to its neighbours; empty leaves it to the kernel.
	MAC string `json:"mac,omitempty"`
	// Peer is the other end of a veth.
	Peer Peer `json:"peer,omitzero"`
}

// Peer is the other end of a veth, on another host, in a bridge there if one is named.
type Peer struct {
	Host   string `json:"host"`
	Name   string `json:"name"`
	Bridge string `json:"bridge,omitempty"`
}

// Address is an interface's address; it is usable at once (no duplicate address detection).
type Address struct {
	Link   string       `json:"link"`
	Prefix netip.Prefix `json:"prefix"`
}

// Route is a route by a gateway, or to what is on Link.
type Route struct {
	To   netip.Prefix `json:"to"`
	Via  netip.Addr   `json:"via,omitzero"`
	Link string       `json:"link,omitempty"`
}

// Command is a program to run on a host.
type Command struct {
	Host string   `json:"host"`
	Argv []string `json:"argv"`
	// Env is the whole environment. PATH in it also finds Argv[0].
	Env []string `json:"env,omitempty"`
	Dir string   `json:"dir,omitempty"`
	// Mkdir are directories to make on the host first.
	Mkdir []string `json:"mkdir,omitempty"`
	// Urgent puts it before what else the machine does (a build, say), which would show in every time measured.
	Urgent bool `json:"urgent,omitempty"`
	// Processors are those it and its children run on, by number; nil: all.
	Processors []int `json:"processors,omitempty"`
}
