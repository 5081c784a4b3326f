package gossip

import (
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
)

var networks = map[string]string{"IPv4": "10.0.0.%d/24", "IPv6": "fd00::%d/64"}

func TestKernelAMachineThatGoesIsDeadAndSilent(t *testing.T) {
	netnstest.Require(t)
	for family, format := range networks {
		t.Run(family, func(t *testing.T) {
			members := lan(t, 3, format)
			gone := members[2]
			since := boot()
			gone.link(false)
			first, last := verdicts(t, members, gone, since, quiet)
			t.Logf("link down: held dead after %s and %s", first, last)
			sees(t, []*process{gone}, members[0], "is silent", quiet)
			since = boot()
			gone.link(true)
			together(t, members)
			t.Logf("link up: together again after %s", boot()-since)
		})
	}
}

func TestKernelAProcessThatIsKilledIsDeadAndItsMachineIsNot(t *testing.T) {
	netnstest.Require(t)
	for family, format := range networks {
		t.Run(family, func(t *testing.T) {
			members := lan(t, 3, format)
			victim := members[1]
			since := boot()
			victim.kill()
			first, last := verdicts(t, members, victim, since, func(s State) bool { return !s.Alive && s.Dead > 0 && s.Refused })
			t.Logf("killed: held dead after %s and %s", first, last)
			since = boot()
			victim.link(false)
			sees(t, members, victim, "went silent with its machine", quiet)
			t.Logf("link down: held silent after %s", boot()-since)
			victim.link(true)
			sees(t, members, victim, "has its machine back", func(s State) bool { return s.Refused })
			victim.start()
			together(t, members)
		})
	}
}

// On a network that loses a fifth of all packets and delays the others by up to 200 ms, each way, nobody is held dead. ARP is
// left out: the kernel asks three times, a second apart, and where all are lost nothing passes. So is the time until members
// have learnt how slow answers have become.
func TestKernelABadNetworkKillsNobody(t *testing.T) {
	netnstest.Require(t)
	members := lan(t, 4, networks["IPv4"])
	for _, p := range members {
		p.introduce(members)
		p.netem("delay 100ms 100ms loss 20%")
	}
	time.Sleep(lately)
	together(t, members)
	for _, p := range members {
		p.mu.Lock()
		p.verdicts = 0
		p.mu.Unlock()
	}
	time.Sleep(30 * time.Second)
	for _, p := range members {
		p.mu.Lock()
		if p.verdicts > 0 || len(p.peers) != len(members)-1 {
			t.Errorf("%s gave %d verdicts: %v\n%s", p.own.Node, p.verdicts, p.peers, p.log)
		}
		p.mu.Unlock()
	}
	// The network was bad, and not without effect: one that goes is noticed all the same.
	members[0].kill()
	sees(t, members, members[0], "is dead", func(s State) bool { return !s.Alive })
}
