package speaker

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corefake "k8s.io/client-go/kubernetes/fake"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	fairleadfake "github.com/fairlead/fairlead/pkg/generated/clientset/versioned/fake"
	"github.com/fairlead/fairlead/pkg/kube"
)

// TestAVIPThatComesHereIsAnEvent: of a takeover each VIP is one, once its status is written; a speaker that was replaced finds its own.
func TestAVIPThatComesHereIsAnEvent(t *testing.T) {
	for holder, want := range map[string][]string{
		"":   {"192.0.2.1 Normal Announced: node n1 announces it"},
		"n2": {"192.0.2.1 Normal Announced: node n1 announces it"},
		"n1": nil,
	} {
		vip := &v1alpha1.VIP{ObjectMeta: metav1.ObjectMeta{Name: "192.0.2.1", UID: "u"}, Status: v1alpha1.VIPStatus{Node: holder}}
		clients := &kube.Clients{Core: corefake.NewSimpleClientset(), Fairlead: fairleadfake.NewSimpleClientset(vip)}
		watcher, err := kube.NewWatcher(clients, func() {})
		if err != nil {
			t.Fatal(err)
		}
		if err := watcher.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		events := &fakeRecorder{}
		r := newReporter(Config{Node: "n1", Clients: clients, Recorder: events}, watcher, func() bool { return false })
		r.reports[vip.Name] = kube.VIPReport{Node: "n1", Interface: "eth0", Reason: v1alpha1.VIPReasonAnnounced, Message: "node n1 announces it"}
		r.todo[vip.Name] = true
		if !r.writeAll(t.Context()) || !slices.Equal(events.events, want) {
			t.Errorf("held by %q before: events %q, want %q", holder, events.events, want)
		}
	}
}
