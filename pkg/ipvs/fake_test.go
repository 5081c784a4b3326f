package ipvs

import (
	"testing"

	"github.com/fairlead/fairlead/pkg/model"
)

func TestTheFakeRefusesWhatTheKernelRefuses(t *testing.T) {
	f := tcp("10.0.0.1:80")
	for name, c := range map[string]Change{
		"a backend of no server":        {Op: AddBackend, Frontend: f, Backend: backend("10.0.1.1:80", 1)},
		"editing a server that is gone": {Op: EditServer, Frontend: f, Scheduler: rr},
		"a backend of another family":   {Op: AddBackend, Frontend: f, Backend: backend("[fd00::1]:80", 1)},
		"a protocol without ports":      {Op: AddServer, Frontend: model.Frontend{Addr: f.Addr, Proto: "ICMP"}},
		"an operation that is none":     {Frontend: f},
	} {
		fake := NewFake()
		if applied, err := fake.Apply([]Change{c}); applied != 0 || err == nil {
			t.Errorf("%s: %d applied, error %v", name, applied, err)
		}
		if writes := fake.Writes(); len(writes) != 0 {
			t.Errorf("%s: written %v", name, writes)
		}
	}
}
