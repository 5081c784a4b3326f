package controller

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestSpeakersGetAKeyThatStays(t *testing.T) {
	w := newWorld(t)
	name := types.NamespacedName{Namespace: "fairlead-system", Name: "fairlead-gossip"}
	secrets := w.core.CoreV1().Secrets(name.Namespace)
	key := func() []byte {
		secret, err := secrets.Get(w.ctx, name.Name, metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return secret.Data["key"]
	}
	made := func() []byte {
		t.Helper()
		_, stop := w.start(func(c *Config) { c.GossipSecret = name })
		defer stop()
		w.eventually("a key", func() string {
			if len(key()) == 32 {
				return ""
			}
			return "there is none"
		})
		return key()
	}
	first := made()
	if again := made(); !bytes.Equal(first, again) {
		t.Error("another controller changed the key")
	}
	if err := secrets.Delete(w.ctx, name.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if next := made(); bytes.Equal(first, next) || bytes.Equal(next, make([]byte, 32)) {
		t.Error("the second key is the first, or none")
	}
	own := corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name.Namespace, Name: "own"}, Data: map[string][]byte{"key": []byte("a user's")}}
	if _, err := secrets.Create(w.ctx, &own, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c, _ := w.start()
	if made, err := c.makeGossipKey(w.ctx, types.NamespacedName{Namespace: name.Namespace, Name: "own"}); made || err != nil {
		t.Errorf("a user's key was replaced: %v, %v", made, err)
	}
}
