// Package pool does the arithmetic of address pools: it reads address specifications into sorted disjoint ranges, tells
// whether two pools overlap, and hands out and takes back single addresses.
//
// It is pure: it owns no object, reads no clock, logs nothing, and imports the standard library alone. Memory follows the
// number of holes between used addresses, never the size of a pool: an IPv6 /64 costs what one address costs. It does not
// promise that an address is unused on the network or by another controller; that is for the one who creates the VIP object.
package pool
