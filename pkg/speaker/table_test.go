package speaker

import (
	"context"
	"testing"

	"github.com/fairlead/fairlead/pkg/nft"
)

// counting counts how often a table is read.
type counting struct {
	*nft.Fake
	read int
}

func (c *counting) Sync(ctx context.Context, want nft.State) (bool, error) {
	c.read++
	return c.Fake.Sync(ctx, want)
}

// TestTheTableIsReadOnceAtAStart, although nothing is known yet of who holds what: unless somebody else was at it.
func TestTheTableIsReadOnceAtAStart(t *testing.T) {
	for _, distrust := range []bool{false, true} {
		f := newFakes(nft.NewFake())
		apply(t, f.datapath(), mixed(standby()))
		d := f.datapath()
		table := &counting{Fake: f.table}
		d.kernel.Table = table
		if _, err := d.Apply(context.Background(), standby(), false); err != nil {
			t.Fatal(err)
		}
		want := 1
		if distrust {
			f.table.Vanish()
			d.Distrust()
			want++
		}
		apply(t, d, holder())
		if bound := f.bound(t); table.read != want || len(bound) != 2 {
			t.Errorf("distrust %v: the table was read %d times, not %d; bound: %v", distrust, table.read, want, bound)
		}
		if intact, err := d.kernel.Table.Verify(context.Background(), d.table); !intact || err != nil {
			t.Errorf("distrust %v: the table is not as wanted: %v", distrust, err)
		}
	}
}
