package announce

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where things are in a frame: of ARP for IPv4 on Ethernet (RFC 826), and of a neighbour discovery message (RFC 4861,
// section 4) that follows the IPv6 header (RFC 8200, section 3) at once.
const (
	atARPKind     = headerLen // hardware and protocol type
	atARPLengths  = headerLen + 4
	atARPOp       = headerLen + 6
	atARPSenderHW = headerLen + 8
	atARPSender   = headerLen + 14
	atARPTarget   = headerLen + 24
	arpLen        = headerLen + 28

	atNextHeader = headerLen + 6
	atHopLimit   = headerLen + 7
	atSource     = headerLen + 8
	atICMP       = headerLen + ipv6HeaderLen
	atTarget     = atICMP + 8
	ndpLen       = atTarget + 16

	solicitationType  = 135 // RFC 4861, section 4.3
	advertisementType = 136 // section 4.4
)

const (
	// otherHost is the type of packets that were sent neither to this host's address nor to a group nor to all
	// (linux/if_packet.h, PACKET_OTHERHOST). The kernel marks those of VLANs that the host has no interface for so too
	// (net/core/dev.c).
	otherHost = 3
	// ndpMost is as much of a neighbour discovery message as is read: options come in no order, and are few.
	ndpMost = 512
)

// test is a step of a filter: what it finds passes or does not, or goes on to the next step.
type test struct {
	load  bpf.Instruction
	is    bpf.JumpTest
	value uint32
	pass  bool
}

// arpFilter lets ARP for IPv4 on Ethernet pass: whatever the operation, the sender claims its address.
var arpFilter = filter(arpLen,
	test{load: bpf.LoadExtension{Num: bpf.ExtType}, is: bpf.JumpEqual, value: otherHost},
	test{load: bpf.LoadAbsolute{Off: atARPKind, Size: 4}, is: bpf.JumpNotEqual, value: unix.ARPHRD_ETHER<<16 | unix.ETH_P_IP},
	test{load: bpf.LoadAbsolute{Off: atARPLengths, Size: 2}, is: bpf.JumpNotEqual, value: 6<<8 | 4},
)

// ndpFilter lets neighbour advertisements pass, and the solicitations of hosts without an address: others claim nothing. Both
// must have the hop limit that proves that no router sent them on (RFC 4861, section 7.1).
var ndpFilter = filter(ndpMost,
	test{load: bpf.LoadExtension{Num: bpf.ExtType}, is: bpf.JumpEqual, value: otherHost},
	test{load: bpf.LoadAbsolute{Off: atNextHeader, Size: 1}, is: bpf.JumpNotEqual, value: icmpv6},
	test{load: bpf.LoadAbsolute{Off: atHopLimit, Size: 1}, is: bpf.JumpNotEqual, value: hopLimit},
	test{load: bpf.LoadAbsolute{Off: atICMP, Size: 1}, is: bpf.JumpEqual, value: advertisementType, pass: true},
	test{load: bpf.LoadAbsolute{Off: atICMP, Size: 1}, is: bpf.JumpNotEqual, value: solicitationType},
	test{load: bpf.LoadAbsolute{Off: atSource, Size: 4}, is: bpf.JumpNotEqual},
	test{load: bpf.LoadAbsolute{Off: atSource + 4, Size: 4}, is: bpf.JumpNotEqual},
	test{load: bpf.LoadAbsolute{Off: atSource + 8, Size: 4}, is: bpf.JumpNotEqual},
	test{load: bpf.LoadAbsolute{Off: atSource + 12, Size: 4}, is: bpf.JumpNotEqual},
)

// filter is a program that hands over so many bytes of what gets to the end of the tests, or passes before.
func filter(length uint32, tests ...test) []bpf.Instruction {
	var program []bpf.Instruction
	for i, t := range tests {
		skip := uint8(2 * (len(tests) - 1 - i)) // to the end, where the frame passes
		if !t.pass {
			skip++
		}
		program = append(program, t.load, bpf.JumpIf{Cond: t.is, Val: t.value, SkipTrue: skip})
	}
	return append(program, bpf.RetConstant{Val: length}, bpf.RetConstant{Val: 0})
}
