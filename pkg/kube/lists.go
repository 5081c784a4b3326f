package kube

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// sorted keeps objects in the order of their names. To list them costs what changed since the last time, and a list that did
// not change is the very one of the last time: callers tell that at a glance. The zero sorted is empty.
type sorted[T metav1.Object] struct {
	mu      sync.Mutex
	all     []T          // never changed in place
	changes map[string]T // by name: what was brought or, zero, is gone
}

// put takes what is now under a name; zero: nothing.
func (s *sorted[T]) put(name string, now T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes == nil {
		s.changes = map[string]T{}
	}
	s.changes[name] = now
}

// list gives all objects. The list must not be changed.
func (s *sorted[T]) list() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.changes) > 0 {
		s.all, s.changes = merge(s.all, s.changes), nil
	}
	return s.all
}

// get gives the object of a name, zero if there is none.
func (s *sorted[T]) get(name string) (object T) {
	all := s.list()
	if i, found := slices.BinarySearchFunc(all, name, byName[T]); found {
		object = all[i]
	}
	return object
}

// grouped keeps lists of objects, each of those that belong to one other object, as sorted does. The zero grouped is empty.
type grouped[T metav1.Object] struct {
	mu     sync.RWMutex
	groups map[types.NamespacedName][]T
}

// put takes what is now under a name in a group; zero: nothing.
func (g *grouped[T]) put(group types.NamespacedName, name string, now T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.groups == nil {
		g.groups = map[types.NamespacedName][]T{}
	}
	if g.groups[group] = merge(g.groups[group], map[string]T{name: now}); len(g.groups[group]) == 0 {
		delete(g.groups, group)
	}
}

// list gives the objects of a group. The list must not be changed.
func (g *grouped[T]) list(group types.NamespacedName) []T {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.groups[group]
}

func byName[T metav1.Object](object T, name string) int { return cmp.Compare(object.GetName(), name) }

// merge makes changes in a list that is sorted by name, in a list of its own.
func merge[T metav1.Object](all []T, changes map[string]T) []T {
	var none T
	out := make([]T, 0, len(all)+len(changes))
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		i, found := slices.BinarySearchFunc(all, name, byName[T])
		out, all = append(out, all[:i]...), all[i:]
		if found {
			all = all[1:]
		}
		if now := changes[name]; any(now) != any(none) {
			out = append(out, now)
		}
	}
	return append(out, all...)
}
