package ipvs

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/pkg/model"
)

func TestKernelFrontendsAreThoseOfServers(t *testing.T) {
	k := real(t)
	want := []model.Frontend{
		tcp("10.0.0.100:80"), {Addr: tcp("10.0.0.100:80").Addr, Port: 80, Proto: model.UDP}, tcp("10.0.0.100:443"), tcp("[fd00::100]:80"),
	}
	for i := range want { // the last one first
		f := want[len(want)-1-i]
		if _, err := k.Apply([]Change{{Op: AddServer, Frontend: f, Scheduler: rr}}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := k.Frontends()
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" || err != nil {
		t.Errorf("error %v, frontends (-want +got):\n%s", err, diff)
	}
}

// BenchmarkKernelFrontends measures what a look at all services costs.
func BenchmarkKernelFrontends(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("frontends=%d", n), func(b *testing.B) {
			k := real(b)
			apply(b, k, benchServers(n)...)
			for b.Loop() {
				if frontends, err := k.Frontends(); err != nil || len(frontends) != n {
					b.Fatal(len(frontends), err)
				}
			}
		})
	}
}
