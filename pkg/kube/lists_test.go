package kube

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
)

func names[T metav1.Object](all []T) (out []string) {
	for _, object := range all {
		out = append(out, object.GetName()+" "+object.GetResourceVersion())
	}
	return out
}

// TestListsAreWhatExistsInOrder goes through random histories: whatever came, changed and went, a list is what is there now,
// by name, and a list that was handed out before is as it was.
func TestListsAreWhatExistsInOrder(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		var lists sorted[*corev1.Node]
		exists := map[string]string{}
		for step := range 100 {
			before := lists.list()
			was := names(before)
			for range random.IntN(4) {
				name, version := fmt.Sprintf("n%d", random.IntN(9)), fmt.Sprint(step)
				if random.IntN(3) == 0 {
					delete(exists, name)
					lists.put(name, nil)
					continue
				}
				exists[name] = version
				lists.put(name, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: version}})
			}
			var want []string
			for name, version := range exists {
				want = append(want, name+" "+version)
			}
			slices.Sort(want)
			if got := names(lists.list()); !slices.Equal(got, want) {
				t.Fatalf("history %d, step %d: listed are %q, want %q", seed, step, got, want)
			}
			if now := names(before); !slices.Equal(now, was) {
				t.Fatalf("history %d, step %d: a list that was handed out was %q and is %q", seed, step, was, now)
			}
		}
	}
}

func TestAListThatDidNotChangeIsTheSame(t *testing.T) {
	var nodes sorted[*corev1.Node]
	nodes.put("n1", node())
	if first, second := nodes.list(), nodes.list(); &first[0] != &second[0] {
		t.Error("it was made anew")
	}
	if nodes.get("n1") == nil || nodes.get("n2") != nil {
		t.Error("an object is not found by its name, or one that does not exist is")
	}
}

func endpointSlice(name, service string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service},
	}}
}

func TestAnEndpointSliceIsListedWithItsServiceOnly(t *testing.T) {
	var w Watcher
	listed := func(service string) string {
		return fmt.Sprint(names(w.EndpointSlices(types.NamespacedName{Namespace: "default", Name: service})))
	}
	first := endpointSlice("web-1", "web")
	w.keepSlice(nil, endpointSlice("web-2", "web"))
	w.keepSlice(nil, first)
	if got := listed("web"); got != "[web-1  web-2 ]" {
		t.Errorf("listed are %s, want both in order", got)
	}
	moved := endpointSlice("web-1", "other")
	w.keepSlice(first, moved)
	if web, other := listed("web"), listed("other"); web != "[web-2 ]" || other != "[web-1 ]" {
		t.Errorf("after one was given to another Service %s and %s are listed", web, other)
	}
	w.keepSlice(moved, nil)
	if got := listed("other"); got != "[]" {
		t.Errorf("listed is %s after it was deleted", got)
	}
}

func TestClaimsAndVIPsThatAreBeingDeletedAreNotListed(t *testing.T) {
	var w Watcher
	now := metav1.Now()
	there, leaving := &v1alpha1.VIP{}, &v1alpha1.VIP{}
	there.Name, leaving.Name, leaving.DeletionTimestamp = "10.87.2.10", "10.87.2.11", &now
	w.keepVIP(nil, there)
	w.keepVIP(nil, leaving)
	claim := &v1alpha1.VIP{}
	claim.Name = "no-address"
	w.keepVIP(nil, claim)
	if got := fmt.Sprint(names(w.VIPs())); got != "[10.87.2.10 ]" {
		t.Errorf("listed are %s", got)
	}
	there = there.DeepCopy()
	there.DeletionTimestamp = &now
	w.keepVIP(nil, there)
	if len(w.VIPs()) != 0 || w.VIP("10.87.2.10") != nil {
		t.Error("one that began to be deleted is still listed")
	}
}
