package pool

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	for _, tc := range []struct{ name, spec, want string }{
		{"an IPv4 network holds its first and last address", "192.0.2.0/28", "192.0.2.0/28"},
		{"an IPv6 network", "2001:db8::/64", "2001:db8::/64"},
		{"a range that is a network is written as one", "192.0.2.16-192.0.2.31", "192.0.2.16/28"},
		{"a range that is not", "192.0.2.10-192.0.2.20", "192.0.2.10-192.0.2.20"},
		{"a range with spaces", " 192.0.2.10 - 192.0.2.20 ", "192.0.2.10-192.0.2.20"},
		{"a range of one address", "192.0.2.10-192.0.2.10", "192.0.2.10"},
		{"an IPv6 range across a 64-bit boundary", "2001:db8::ffff:ffff:ffff:ffff-2001:db8:0:1::", "2001:db8::ffff:ffff:ffff:ffff-2001:db8:0:1::"},
		{"one IPv4 address", "192.0.2.10", "192.0.2.10"},
		{"one IPv6 address", "2001:DB8:0::1", "2001:db8::1"},
		{"a host network", "2001:db8::1/128", "2001:db8::1"},
		{"half of all unicast addresses", "2000::/3", "2000::/3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseRange(tc.spec)
			if err != nil || got.String() != tc.want {
				t.Errorf("ParseRange(%q) = %v, %v; want %s", tc.spec, got, err, tc.want)
			}
		})
	}
}

func TestParseRangeRefuses(t *testing.T) {
	for _, tc := range []struct{ name, spec, problem, remedy string }{
		{"nonsense", "pool-a", `holds "pool"`, "write a CIDR"},
		{"nothing", "", "not an IP address", "write a CIDR"},
		{"a name", "example", "not an IP address", "one address (192.0.2.10)"},
		{"a reversed range", "192.0.2.20-192.0.2.10", "ends before it begins", "write 192.0.2.10-192.0.2.20"},
		{"families mixed", "192.0.2.1-2001:db8::1", "from IPv4 to IPv6", "one range for each family"},
		{"three ends", "192.0.2.1-192.0.2.2-192.0.2.3", "not an IP address", "write a CIDR"},
		{"a mapped address", "::ffff:192.0.2.1", "IPv4-mapped", "write it as IPv4 (192.0.2.1)"},
		{"a mapped network", "::ffff:192.0.2.0/120", "IPv4-mapped", "(192.0.2.0)"},
		{"a zone", "2001:db8::1%eth0", "has a zone", "write 2001:db8::1;"},
		{"host bits", "192.0.2.5/28", "bits set after its prefix", "write 192.0.2.0/28 for the network or 192.0.2.5"},
		{"a prefix too long", "192.0.2.0/33", "is not a CIDR", "write a CIDR"},
		{"all of IPv4", "0.0.0.0/0", "this network", "leave them out"},
		{"all of IPv6", "::/0", "unspecified", "leave them out"},
		{"loopback", "127.0.0.1", "loopback", "leave them out"},
		{"multicast", "2001:db8::-ff02::1", "link-local", "leave them out"},
		{"broadcast", "255.255.255.255", "broadcast", "leave them out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := ParseRange(tc.spec)
			var parse *ParseError
			if !errors.As(err, &parse) {
				t.Fatalf("ParseRange(%q): %v, want a *ParseError", tc.spec, err)
			}
			for _, part := range []string{strings.TrimSpace(tc.spec), tc.problem, tc.remedy} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func FuzzParseRange(f *testing.F) {
	for _, seed := range []string{"192.0.2.0/28", "192.0.2.1-192.0.2.9", "2001:db8::/64", "::ffff:1.2.3.4", "fe80::1%x", "a-b", "1.2.3.4/-1", "::1-"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		r, err := ParseRange(spec)
		if err != nil {
			if parse := (*ParseError)(nil); !errors.As(err, &parse) || parse.Remedy == "" {
				t.Fatalf("ParseRange(%q): %v has no remedy", spec, err)
			}
			return
		}
		if r.Last.Less(r.First) || FamilyOf(r.First) != FamilyOf(r.Last) {
			t.Fatalf("ParseRange(%q) = %+v", spec, r)
		}
		again, err := ParseRange(r.String())
		if err != nil || again != r {
			t.Fatalf("ParseRange(%q) = %v, which reads as %v, %v", spec, r, again, err)
		}
	})
}

func TestSetIsSortedAndDisjoint(t *testing.T) {
	set, err := Parse([]string{"2001:db8::10", "192.0.2.16/28", "192.0.2.8-192.0.2.20", "192.0.2.0/29", "198.51.100.1", "2001:db8::11"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range set.Ranges() {
		got = append(got, r.String())
	}
	if want := "192.0.2.0/27 198.51.100.1 2001:db8::10/127"; strings.Join(got, " ") != want {
		t.Errorf("ranges %v, want %s", got, want)
	}
	for addr, want := range map[string]bool{
		"192.0.2.0": true, "192.0.2.31": true, "192.0.2.32": false, "191.255.255.255": false, "198.51.100.1": true,
		"2001:db8::11": true, "2001:db8::12": false, "::": false,
	} {
		if got := set.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("Contains(%s) = %v", addr, got)
		}
	}
	if v4, v6 := set.Capacity(IPv4).String(), set.Capacity(IPv6).String(); v4 != "33" || v6 != "2" {
		t.Errorf("capacity %s and %s, want 33 and 2", v4, v6)
	}
}

func TestParseKeepsGoodEntriesAndNamesAllBad(t *testing.T) {
	set, err := Parse([]string{"192.0.2.1", "nonsense", "192.0.2.9-192.0.2.3"})
	if err == nil || !strings.Contains(err.Error(), `"nonsense"`) || !strings.Contains(err.Error(), "write 192.0.2.3-192.0.2.9") {
		t.Errorf("error %v names not both", err)
	}
	if set.Capacity(IPv4).String() != "1" {
		t.Errorf("good entry lost: %v", set.Ranges())
	}
}

func TestWithout(t *testing.T) {
	for _, tc := range []struct{ name, set, less, want string }{
		{"the middle", "192.0.2.0/24", "192.0.2.10-192.0.2.20", "192.0.2.0-192.0.2.9 192.0.2.21-192.0.2.255"},
		{"both ends", "192.0.2.0/30", "192.0.2.0,192.0.2.3", "192.0.2.1-192.0.2.2"},
		{"all", "192.0.2.0/30,2001:db8::1", "192.0.2.0/24", "2001:db8::1"},
		{"nothing", "192.0.2.0/30", "198.51.100.0/24,2001:db8::/64", "192.0.2.0/30"},
		{"across two ranges", "192.0.2.0-192.0.2.9,192.0.2.20-192.0.2.29", "192.0.2.5-192.0.2.25", "192.0.2.0-192.0.2.4 192.0.2.26-192.0.2.29"},
		{"many of one range, one of many", "192.0.2.0/29,192.0.2.16/29", "192.0.2.1,192.0.2.3,192.0.2.17", "192.0.2.0 192.0.2.2 192.0.2.4/30 192.0.2.16 192.0.2.18-192.0.2.23"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, r := range mustParse(t, tc.set).Without(mustParse(t, tc.less)).Ranges() {
				got = append(got, r.String())
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("%v, want %s", got, tc.want)
			}
		})
	}
}

func TestOverlap(t *testing.T) {
	for _, tc := range []struct {
		name       string
		a, b, want string
	}{
		{"one inside the other", "192.0.2.0/24", "192.0.2.10", "192.0.2.10"},
		{"ends cross", "192.0.2.0-192.0.2.9", "192.0.2.5-192.0.2.20", "192.0.2.5-192.0.2.9"},
		{"ends touch", "192.0.2.0-192.0.2.9", "192.0.2.10-192.0.2.20", ""},
		{"the last of many", "192.0.2.1,192.0.2.5,2001:db8::/64", "192.0.2.3,2001:db8::ff", "2001:db8::ff"},
		{"other family", "192.0.2.1", "2001:db8::1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := mustParse(t, tc.a), mustParse(t, tc.b)
			for _, shared := range []func() (Shared, bool){
				func() (Shared, bool) { return Overlap(a, b) },
				func() (Shared, bool) { return Overlap(b, a) },
			} {
				got, ok := shared()
				if ok != (tc.want != "") || ok && got.Common.String() != tc.want {
					t.Errorf("%v, %v; want %q", got, ok, tc.want)
				}
			}
		})
	}
}

func mustParse(t testing.TB, specs string) Set {
	t.Helper()
	set, err := Parse(strings.Split(specs, ","))
	if err != nil {
		t.Fatal(err)
	}
	return set
}
