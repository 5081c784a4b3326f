package nft

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMerge(t *testing.T) {
	tests := map[string]struct{ in, want []string }{
		"nothing":                                 {},
		"what a network contains goes":            {[]string{"10.1.0.0/16", "10.0.0.0/8", "10.1.2.3/32"}, []string{"10.0.0.0/8"}},
		"twice the same is once":                  {[]string{"10.0.0.0/8", "10.0.0.0/8"}, []string{"10.0.0.0/8"}},
		"host bits are cleared":                   {[]string{"10.1.2.3/8"}, []string{"10.0.0.0/8"}},
		"halves become a whole, over and over":    {[]string{"10.0.0.64/26", "10.0.0.128/25", "10.0.0.0/26"}, []string{"10.0.0.0/24"}},
		"neighbours that are no halves stay":      {[]string{"10.0.1.0/24", "10.0.2.0/24"}, []string{"10.0.1.0/24", "10.0.2.0/24"}},
		"everything becomes one":                  {[]string{"128.0.0.0/1", "0.0.0.0/1"}, []string{"0.0.0.0/0"}},
		"networks of the other family do not fit": {[]string{"10.0.0.0/8", "fd00::/8"}, []string{"10.0.0.0/8"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var in []netip.Prefix
			for _, s := range test.in {
				in = append(in, netip.MustParsePrefix(s))
			}
			var got []string
			for _, p := range merge(in, true) {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzMerge checks that merged networks do not overlap and cover the same addresses.
func FuzzMerge(f *testing.F) {
	f.Add([]byte{10, 0, 0, 0, 8, 10, 1, 0, 0, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		var in []netip.Prefix
		for ; len(data) >= 5; data = data[5:] {
			in = append(in, netip.PrefixFrom(netip.AddrFrom4([4]byte(data[:4])), int(data[4])%33))
		}
		out := merge(in, true)
		covers := func(all []netip.Prefix, a netip.Addr) bool {
			for _, p := range all {
				if p.Contains(a) {
					return true
				}
			}
			return false
		}
		for i, p := range out {
			for _, other := range out[:i] {
				if p.Overlaps(other) {
					t.Errorf("%v: %v overlaps %v", in, p, other)
				}
			}
			if !covers(in, p.Addr()) {
				t.Errorf("%v: %v covers too much", in, p)
			}
		}
		for _, p := range in {
			if !covers(out, p.Addr()) || !covers(out, p.Masked().Addr()) {
				t.Errorf("%v: %v is not covered by %v", in, p, out)
			}
		}
	})
}

func TestParseReadsWhatNftWrites(t *testing.T) {
	for _, test := range []struct{ set, key, want string }{
		{vips4, "10.0.0.100", "10.0.0.100"},
		{services6, "fd00::100 . tcp . 80", "fd00::100 . 6 . 80"},
		{services4, "10.0.0.100 . sctp . 80", "10.0.0.100 . 132 . 80"},
		{services4, "10.0.0.100 . 17 . 80", "10.0.0.100 . 17 . 80"},
		{sources4, "10.0.0.100 . udp . 80 . 10.0.0.0/8", "10.0.0.100 . 17 . 80 . 10.0.0.0/8"},
		{sources4, "10.0.0.100 . udp . 80 . 10.0.0.1", "10.0.0.100 . 17 . 80 . 10.0.0.1/32"},
		{vips4, "10.0.0.100 . tcp", ""},
		{vips4, "10.0.0.0/24", ""},
		{services4, "10.0.0.100 . tcp . http", ""},
		{services4, "10.0.0.100 . tcp . 65536", ""},
		{services4, "10.0.0.100 . esp . 80", ""},
		{sources4, "10.0.0.100 . tcp . 80 . range", ""},
	} {
		e, err := parse(test.set, strings.Split(test.key, " . "), nil)
		got := ""
		if err == nil {
			got = strings.Join(e.key(), " . ")
		}
		if got != test.want {
			t.Errorf("parse(%s, %q) = %q (error %v), want %q", test.set, test.key, got, err, test.want)
		}
	}
}

// FuzzParse checks that what can be parsed is written so that it is parsed again to the same.
func FuzzParse(f *testing.F) {
	f.Add(sources4, "10.0.0.100 . udp . 80 . 10.0.0.0/8")
	f.Add(services6, "fd00::100 . 6 . 80")
	f.Add(vips6, "::ffff:10.0.0.1")
	f.Fuzz(func(t *testing.T, set, key string) {
		e, err := parse(set, strings.Split(key, " . "), nil)
		if err != nil {
			return
		}
		if again, err := parse(set, e.key(), nil); err != nil || again != e {
			t.Errorf("%q is %v, written and read again %v (error %v)", key, e, again, err)
		}
	})
}
