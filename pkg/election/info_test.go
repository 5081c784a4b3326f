package election

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/pkg/model"
)

func TestInfoIsReadAsItWasWrittenAndAsOlderSpeakersWroteIt(t *testing.T) {
	info := Info{
		Interfaces: []model.Interface{{Name: "eth0", MAC: "02:00:00:00:00:01", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}},
		Unfit:      []string{"10.0.0.9"},
	}
	same := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	read, err := decodeInfo(info.encode())
	if diff := cmp.Diff(info, read, same); err != nil || diff != "" {
		t.Errorf("error %v, read (-written +read):\n%s", err, diff)
	}
	read, err = decodeInfo(`{"interfaces":{"eth0":["10.0.0.0/24"]},"unfit":["10.0.0.9"]}`)
	info.Interfaces[0].MAC = ""
	if diff := cmp.Diff(info, read, same); err != nil || diff != "" {
		t.Errorf("of an older speaker: error %v, read (-written +read):\n%s", err, diff)
	}
}
