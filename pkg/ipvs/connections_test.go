package ipvs

import "testing"

func TestKernelCountsNothingWhereThereIsNothing(t *testing.T) {
	k := real(t)
	apply(t, k, server(tcp("[fd00::100]:80"), rr, backend("[fd00::1]:8080", 1)))
	counts, err := k.Connections(tcp("[fd00::100]:80"))
	if got, known := counts[backend("[fd00::1]:8080", 1).Addr]; err != nil || !known || got != 0 || len(counts) != 1 {
		t.Errorf("counts %v, error %v, want one backend without connections", counts, err)
	}
	if counts, err = k.Connections(tcp("10.0.0.100:80")); err != nil || len(counts) != 0 {
		t.Errorf("of a server that is not there: counts %v, error %v", counts, err)
	}
}
