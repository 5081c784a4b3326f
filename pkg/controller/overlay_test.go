package controller

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func TestOverlayShowsOwnWritesUntilTheCacheDoes(t *testing.T) {
	cached := map[string]*v1alpha1.VIP{}
	now := time.Unix(0, 0)
	o := newOverlay(func(key string) (*v1alpha1.VIP, bool) { v, ok := cached[key]; return v, ok }, func() time.Time { return now })
	vip := func(version string) *v1alpha1.VIP {
		return &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "1", ResourceVersion: version}}
	}
	want := func(what, version string, entries int) {
		t.Helper()
		got, ok := o.newest("a")
		if ok != (version != "") || ok && got.ResourceVersion != version {
			t.Errorf("%s: %v, %v, want %q", what, got, ok, version)
		}
		if len(o.writes) != entries {
			t.Errorf("%s: %d writes are kept, want %d", what, len(o.writes), entries)
		}
	}
	o.wrote("a", vip("9"))
	want("created, not in the cache", "9", 1)
	cached["a"] = vip("9")
	o.seen("a", vip("9"))
	want("in the cache", "9", 0)
	o.wrote("a", vip("12"))
	o.seen("a", vip("9"))
	want("updated, the cache is older", "12", 1)
	cached["a"] = vip("100") // versions are numbers, not text
	want("the cache is newer", "100", 0)
	o.wrote("a", vip("99"))
	want("the cache was faster than the answer", "100", 0)
	o.removed("a", vip("100"))
	want("deleted, the cache shows it", "", 1)
	delete(cached, "a")
	o.gone("a", types.UID("1"))
	want("deleted", "", 0)
	o.removed("a", vip("100"))
	want("the cache lost it before the answer", "", 0)
	o.wrote("a", vip("200"))
	now = now.Add(overlayAge + time.Second)
	want("never seen", "", 0)
}
