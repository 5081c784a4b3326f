// Package v1alpha1 holds the resources of API group fairlead.dev: IPPool, the addresses that may be handed out, and VIP, one
// address that is. Both are cluster-scoped. The schemas, with their rules and texts, are generated from the comments here.
//
// +k8s:deepcopy-gen=package
// +groupName=fairlead.dev
// +groupGoName=Fairlead
package v1alpha1
