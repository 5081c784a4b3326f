package netif

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/pkg/model"
)

func receiver(vip, wrapped string) model.Receiver {
	r := model.Receiver{Frontend: model.Frontend{Addr: netip.MustParseAddr(vip), Port: 80, Proto: model.TCP}}
	if wrapped != "" {
		r.Wrapped = netip.MustParseAddr(wrapped)
	}
	return r
}

func TestKernelReceivesWithoutBinding(t *testing.T) {
	k := real(t)
	device := func() string {
		out, _ := exec.Command("ip", "-o", "address", "show", "dev", receiverName).Output() // an error: there is none
		return string(out)
	}
	for _, step := range []struct {
		receivers []model.Receiver
		changes   int
		want      []string
	}{
		{nil, 0, nil},
		{[]model.Receiver{receiver("10.9.9.9", ""), receiver("fd09::9", "fd00::1")}, 4, []string{"10.9.9.9/32", "fd09::9/128"}}, // and a tunnel
		{[]model.Receiver{receiver("10.9.9.9", ""), receiver("fd09::9", "fd00::1")}, 0, []string{"10.9.9.9/32", "fd09::9/128"}},
		{[]model.Receiver{receiver("fd09::9", "10.0.0.1"), receiver("fd09::9", "fd00::1")}, 3, []string{"fd09::9/128"}},
		{nil, 1, nil},
	} {
		changed, err := k.Receive(step.receivers)
		if err != nil || changed != step.changes {
			t.Errorf("%v: %d changes, want %d; error %v", step.receivers, changed, step.changes, err)
		}
		have := device()
		for _, addr := range []string{"10.9.9.9/32", "fd09::9/128"} {
			wanted := strings.Contains(strings.Join(step.want, " "), addr)
			if strings.Contains(have, addr) != wanted {
				t.Errorf("%v: the device has\n%s", step.receivers, have)
			}
		}
		if b := bound(t, k); len(b) != 0 {
			t.Errorf("%v: bound %v", step.receivers, b)
		}
	}
}
