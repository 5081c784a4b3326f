// Package source reads what a Service asks of Fairlead: whether it is ours, which address families, addresses and pool it
// wants, and which frontends it puts on them.
//
// It is pure: a function of the Service object alone. It owns the annotations of fairlead.dev and the names of VIP objects,
// touches nothing, and does not promise that what is asked can be had.
package source
