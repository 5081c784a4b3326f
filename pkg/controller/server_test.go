package controller

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	corefake "k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	fairleadfake "github.com/fairlead/fairlead/pkg/generated/clientset/versioned/fake"
)

// server is an API server in memory: the fake clientsets, with what they leave out: UIDs, resource versions, conflicts and the
// preconditions of deletions.
type server struct {
	core     *corefake.Clientset
	fairlead *fairleadfake.Clientset

	mu      sync.Mutex
	version int
	writes  []string
	// before is called before a write, as "verb resource name", with the server unlocked; an error is the answer.
	before func(write string) error
	// after is called after a write, with the server locked.
	after func(write string)
}

func newServer() *server {
	s := &server{core: corefake.NewSimpleClientset(), fairlead: fairleadfake.NewSimpleClientset(), version: 100}
	s.guard(&s.core.Fake, s.core.Tracker())
	s.guard(&s.fairlead.Fake, s.fairlead.Tracker())
	return s
}

func (s *server) guard(fake *k8stesting.Fake, tracker k8stesting.ObjectTracker) {
	fake.PrependReactor("*", "*", func(action k8stesting.Action) (bool, runtime.Object, error) {
		return s.react(action, tracker)
	})
	fake.PrependWatchReactor("*", func(action k8stesting.Action) (bool, watch.Interface, error) {
		watcher, err := watchCopies(action, tracker)
		return true, watcher, err
	})
}

// watchCopies watches with objects of the watcher's own: the first that a tracker sends are those that it keeps, and informers
// change what they get.
func watchCopies(action k8stesting.Action, tracker k8stesting.ObjectTracker) (watch.Interface, error) {
	var options metav1.ListOptions
	if a, ok := action.(k8stesting.WatchActionImpl); ok {
		options = a.ListOptions
	}
	inner, err := tracker.Watch(action.GetResource(), action.GetNamespace(), options)
	if err != nil {
		return nil, err
	}
	return watch.Filter(inner, func(event watch.Event) (watch.Event, bool) {
		event.Object = event.Object.DeepCopyObject()
		return event, true
	}), nil
}

// react carries out a write, one at a time, whichever clientset it comes from.
func (s *server) react(action k8stesting.Action, tracker k8stesting.ObjectTracker) (bool, runtime.Object, error) {
	name, write := target(action)
	if !write {
		return false, nil, nil
	}
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	what := action.GetVerb() + " " + action.GetResource().Resource + " " + name
	if before != nil {
		if err := before(what); err != nil {
			return true, nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, what)
	s.version++
	handled, object, err := s.apply(action, tracker, name)
	if !handled {
		_, object, err = k8stesting.ObjectReaction(tracker)(action)
	}
	if s.after != nil && err == nil {
		s.after(what)
	}
	return true, object, err
}

func target(action k8stesting.Action) (name string, write bool) {
	switch a := action.(type) {
	case k8stesting.CreateActionImpl:
		return meta1(a.Object).GetName(), true
	case k8stesting.UpdateActionImpl:
		return meta1(a.Object).GetName(), true
	case k8stesting.PatchActionImpl:
		return a.Name, true
	case k8stesting.DeleteActionImpl:
		return a.Name, true
	}
	return "", false
}

func meta1(object runtime.Object) metav1.Object {
	accessor, err := meta.Accessor(object)
	if err != nil {
		panic(err)
	}
	return accessor
}

func (s *server) apply(action k8stesting.Action, tracker k8stesting.ObjectTracker, name string) (bool, runtime.Object, error) {
	gvr, namespace := action.GetResource(), action.GetNamespace()
	current, err := tracker.Get(gvr, namespace, name)
	conflict := func(why string) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewConflict(gvr.GroupResource(), name, fmt.Errorf("%s", why))
	}
	switch a := action.(type) {
	case k8stesting.CreateActionImpl:
		object := meta1(a.Object)
		if object.GetUID() == "" {
			object.SetUID(types.UID(fmt.Sprintf("uid-%d", s.version)))
		}
		if created := object.GetCreationTimestamp(); created.IsZero() {
			object.SetCreationTimestamp(metav1.Now())
		}
		object.SetResourceVersion(strconv.Itoa(s.version))
		return false, nil, nil
	case k8stesting.UpdateActionImpl:
		if err != nil {
			return true, nil, err
		}
		object := meta1(a.Object)
		if rv := object.GetResourceVersion(); rv != "" && rv != meta1(current).GetResourceVersion() {
			return conflict("resourceVersion")
		}
		object.SetResourceVersion(strconv.Itoa(s.version))
		return false, nil, nil
	case k8stesting.DeleteActionImpl:
		if p := a.GetDeleteOptions().Preconditions; err == nil && p != nil {
			if p.UID != nil && *p.UID != meta1(current).GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != meta1(current).GetResourceVersion() {
				return conflict("precondition")
			}
		}
		if err == nil && len(meta1(current).GetFinalizers()) > 0 {
			held := current.DeepCopyObject()
			now := metav1.Now()
			meta1(held).SetDeletionTimestamp(&now)
			meta1(held).SetResourceVersion(strconv.Itoa(s.version))
			return true, held, tracker.Update(gvr, held, namespace)
		}
		return false, nil, nil
	case k8stesting.PatchActionImpl:
		if err != nil {
			return true, nil, err
		}
		patched, err := s.patch(current, a.GetPatch())
		if err != nil {
			return conflict(err.Error())
		}
		if m := meta1(patched); m.GetDeletionTimestamp() != nil && len(m.GetFinalizers()) == 0 {
			return true, patched, tracker.Delete(gvr, namespace, name)
		}
		return true, patched, tracker.Update(gvr, patched, namespace)
	}
	return false, nil, nil
}

// patch is a merge patch (RFC 7396) with the check of resourceVersion and UID.
func (s *server) patch(object runtime.Object, patch []byte) (runtime.Object, error) {
	var change map[string]any
	if err := json.Unmarshal(patch, &change); err != nil {
		return nil, err
	}
	head, _ := change["metadata"].(map[string]any)
	if head["resourceVersion"] != meta1(object).GetResourceVersion() || head["uid"] != string(meta1(object).GetUID()) {
		return nil, fmt.Errorf("resourceVersion or UID")
	}
	old, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, err
	}
	updated := reflect.New(reflect.TypeOf(object).Elem()).Interface().(runtime.Object)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(mergePatch(old, change), updated); err != nil {
		return nil, err
	}
	meta1(updated).SetResourceVersion(strconv.Itoa(s.version))
	return updated, nil
}

func mergePatch(object, change map[string]any) map[string]any {
	for key, value := range change {
		inner, both := value.(map[string]any)
		at, _ := object[key].(map[string]any)
		switch {
		case value == nil:
			delete(object, key)
		case both:
			if at == nil {
				at = map[string]any{}
			}
			object[key] = mergePatch(at, inner)
		default:
			object[key] = value
		}
	}
	return object
}

// forbid makes every reading of a core resource fail.
func (s *server) forbid(resource string) {
	s.core.PrependReactor("*", resource, func(action k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(action.GetResource().GroupResource(), "", fmt.Errorf("no right"))
	})
}

// takeWrites returns the writes since the last call.
func (s *server) takeWrites() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	writes := s.writes
	s.writes = nil
	return writes
}
