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
	another := vip("200")
	another.UID = "2"
	o.wrote("a", another)
	want("another of the name", "200", 1)
	now = now.Add(overlayAge + time.Second)
	want("never seen", "", 0)
}

func TestADeletedObjectIsNotFollowedByAnEarlierOneOfItsName(t *testing.T) {
	cached := map[string]*v1alpha1.VIP{}
	o := newOverlay(func(key string) (*v1alpha1.VIP, bool) { vip, ok := cached[key]; return vip, ok }, time.Now)
	vip := func(uid, version string) *v1alpha1.VIP {
		return &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: types.UID(uid), ResourceVersion: version}}
	}
	cached["a"] = vip("first", "1") // all that follows happened, and the watch tells none of it yet
	o.removed("a", vip("first", "1"))
	o.wrote("a", vip("second", "5"))
	o.removed("a", vip("second", "5"))
	for _, step := range []func(){
		func() {},
		func() { delete(cached, "a"); o.gone("a", "first") },
		func() { cached["a"] = vip("second", "5"); o.seen("a", cached["a"]) },
		func() { delete(cached, "a"); o.gone("a", "second") },
	} {
		step()
		if got, exists := o.newest("a"); exists {
			t.Errorf("%s, which is gone, is believed to exist", got.UID)
		}
	}
}

func TestAWriteWhoseObjectWentBeforeItsAnswerCameIsForgotten(t *testing.T) {
	cache := map[string]*v1alpha1.VIP{}
	o := newOverlay(func(key string) (*v1alpha1.VIP, bool) { vip, ok := cache[key]; return vip, ok }, time.Now)
	object := vipOf("192.0.2.1")
	object.UID, object.ResourceVersion = "u1", "5"
	o.gone("192.0.2.1", "u1") // the watch told of the creation and the deletion already
	o.wrote("192.0.2.1", object)
	if _, exists := o.newest("192.0.2.1"); exists {
		t.Error("an object that is gone is believed to exist")
	}
	again := vipOf("192.0.2.1")
	again.UID, again.ResourceVersion = "u2", "9"
	o.wrote("192.0.2.1", again)
	if got, exists := o.newest("192.0.2.1"); !exists || got.UID != "u2" {
		t.Error("a later object of the same name is not believed to exist")
	}
}
