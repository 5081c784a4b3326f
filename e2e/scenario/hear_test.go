package scenario

import (
	"net/netip"
	"testing"
	"time"
)

func TestAnnouncementsAreRead(t *testing.T) {
	for line, want := range map[string]Announcement{
		"1795311816.250000 02:00:00:00:01:01 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806), length 42: Request who-has 10.87.11.16 (ff:ff:ff:ff:ff:ff) tell 10.87.11.16, length 28":      {Addr: netip.MustParseAddr("10.87.11.16"), MAC: "02:00:00:00:01:01"},
		"1795311816.250000 02:00:00:00:01:02 > 02:00:00:00:02:01, ethertype ARP (0x0806), length 42: Reply 10.87.11.16 is-at 02:00:00:00:01:02, length 28":                             {Addr: netip.MustParseAddr("10.87.11.16"), MAC: "02:00:00:00:01:02"},
		"1795311816.250000 02:00:00:00:01:01 > 33:33:00:00:00:01, ethertype IPv6 (0x86dd), length 86: fd87::1 > ff02::1: ICMP6, neighbor advertisement, tgt is fd87::11:10, length 32": {Addr: netip.MustParseAddr("fd87::11:10"), MAC: "02:00:00:00:01:01"},
	} {
		want.At = 1795311816250 * time.Millisecond
		if got, ok := parseAnnouncement(line); !ok || got != want {
			t.Errorf("%s: %v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "3 packets captured", "x 02:00:00:00:01:01 > tell 10.0.0.1"} {
		if got, ok := parseAnnouncement(line); ok {
			t.Errorf("%q is %v", line, got)
		}
	}
}

func TestOverlapIsFromTheNextToTheLastOfTheOld(t *testing.T) {
	vip, other := netip.MustParseAddr("10.87.11.16"), netip.MustParseAddr("10.87.11.17")
	var all []Announcement
	say := func(at int, addr netip.Addr, mac string) {
		all = append(all, Announcement{time.Duration(at) * time.Second, addr, mac})
	}
	check := func(want time.Duration, hosts int) {
		t.Helper()
		if got, n := Overlap(all, vip); got != want || n != hosts {
			t.Errorf("%v: overlap %v by %d hosts, want %v by %d", all, got, n, want, hosts)
		}
	}
	check(0, 0)
	say(1, vip, "a")
	say(2, other, "b")
	check(0, 1)
	say(3, vip, "b")
	check(0, 2)
	say(5, vip, "a")
	check(2*time.Second, 2)
}
