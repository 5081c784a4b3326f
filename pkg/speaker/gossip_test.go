package speaker

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSpeakersGossipByOneFamily(t *testing.T) {
	node := func(name string, addresses ...string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for _, a := range addresses {
			n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
		}
		return n
	}
	dual, four, six := node("dual", "192.0.2.1", "2001:db8::1"), node("four", "192.0.2.2"), node("six", "2001:db8::3")
	second := node("second", "2001:db8::4", "192.0.2.4")
	all := []*corev1.Node{dual, four, six, second, node("none")}
	for self, want := range map[string]string{
		"dual":    "map[dual:192.0.2.1 four:192.0.2.2 second:192.0.2.4]",
		"six":     "map[dual:2001:db8::1 second:2001:db8::4 six:2001:db8::3]",
		"second":  "map[dual:2001:db8::1 second:2001:db8::4 six:2001:db8::3]",
		"none":    "map[]",
		"unknown": "map[]",
	} {
		if got := fmt.Sprint(gossipAddresses(all, self)); got != want {
			t.Errorf("%s: got %s, want %s", self, got, want)
		}
	}
}
