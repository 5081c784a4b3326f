// Package controller gives Services of type LoadBalancer their addresses, and puts what ConfigMaps map and claims reserve on VIP
// objects: it creates, updates and deletes those, writes the status of Services that are ours, of IPPools, and what of VIPs is
// for it to say, and reports by events, conditions and metrics.
//
// Creating the VIP object is the allocation: its name is the address, and the API server has no two objects of one name. What
// is kept in memory (which addresses are free, who waits) only saves attempts; it is rebuilt from informers at start. VIP
// objects name their Services by UID, so Services need no finalizer: a controller that was down while a Service went sees at
// its start a VIP object that no Service wants, confirms that with a live read, and releases it. ConfigMaps and claims are
// named as owners, and missed in the same way.
//
// Every write names what it was based on (resourceVersion, UID) or is a creation, so that a second controller, a stale cache
// or a crash between two writes costs a retry and never gives one address to two that do not share it. Who may share is
// written on the frontends, and looked at in the version that is replaced. Addresses are published in the status after their
// VIP object exists, and withdrawn from it before the object goes.
//
// An address that a Service has is kept while anything still allows it: not a bad annotation, nor a pool that shrank or went,
// nor a request for another address that cannot be had takes it away. Only a Service that stops being ours, drops the family,
// gets the address it asked for instead, has no port left on an address that it shares, or is of a pool whose policy is to
// reassign releases it. Of a Service that requires both families and can have one, addresses that were never published are
// released.
//
// The package never touches a node, Services that are not ours (but for the address that they had from us), who holds a VIP, or
// the existence of VIP objects that users made. It does not promise order between Services that are created within one
// moment; freed addresses do go to waiting Services by age.
package controller
