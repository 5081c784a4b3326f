package election

import (
	"testing"
	"time"
)

// TestWhoIsAnsweredAgainConnectsAnew, once, unless the watch went on: then the server was slow, and the network was there.
func TestWhoIsAnsweredAgainConnectsAnew(t *testing.T) {
	at := func(seconds int) Instant { return Instant(seconds) * Instant(time.Second) }
	for name, test := range map[string]struct {
		renewed, failed, brought, answered Instant
		want                               int
	}{
		"after silence":                          {at(10), at(13), at(12), at(14), 1},
		"as always":                              {at(13), 0, at(12), at(14), 0},
		"as since the silence":                   {at(13), at(12), at(11), at(14), 0},
		"a request that others overtook":         {at(10), at(14), at(12), at(13), 0},
		"while the watch told of what others do": {at(10), at(13), at(14), at(15), 0},
	} {
		connected := 0
		e := New(Config{
			Node: "a", Namespace: namespace, Client: newAPI(), Timing: quick(), Clock: BootTime, Notify: func() {},
			Reconnect: func() { connected++ },
		})
		e.view.Renewed, e.view.Failed, e.brought = test.renewed, test.failed, test.brought
		e.answered(test.answered)
		if connected != test.want {
			t.Errorf("%s: connected anew %d times, not %d", name, connected, test.want)
		}
	}
}
