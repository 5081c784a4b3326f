// Package source reads what Services and ConfigMaps ask of Fairlead: whether a Service is ours, which address families,
// addresses and pool it wants, with whom it shares, which Services a ConfigMap puts on which address, and which frontends come
// of it.
//
// It is pure: a function of the objects alone. It owns the annotations of fairlead.dev and the names of VIP objects, touches
// nothing, and does not promise that what is asked can be had.
package source
