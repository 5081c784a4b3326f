package kube

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
)

func secret(data map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "fairlead-system", Name: GossipSecret}, Data: map[string][]byte{}}
	for name, text := range data {
		s.Data[name] = []byte(text)
	}
	return s
}

func TestKeysOfASecret(t *testing.T) {
	a, b, c := strings.Repeat("a", 32), strings.Repeat("b", 16), strings.Repeat("c", 24)
	for name, test := range map[string]struct {
		data  map[string]string
		want  []string
		wrong string // entry that the error names
	}{
		"one":                               {map[string]string{"key": a}, []string{a}, ""},
		"that which encrypts is the first":  {map[string]string{"a": b, "key": a, "z": c}, []string{a, b, c}, ""},
		"none":                              {nil, nil, `"key"`},
		"only another":                      {map[string]string{"old": a}, nil, `"key"`},
		"a text's end of line is no key's":  {map[string]string{"key": a + "\n"}, nil, `"key"`},
		"one of those that decrypt is none": {map[string]string{"key": a, "old": "x"}, nil, `"old"`},
	} {
		keys, err := gossipKeys(secret(test.data))
		var got []string
		for _, key := range keys {
			got = append(got, string(key))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		if test.wrong == "" && err != nil || test.wrong != "" && (err == nil ||
			!strings.Contains(err.Error(), "entry "+test.wrong+" of Secret fairlead-system/fairlead-gossip")) {
			t.Errorf("%s: %v, want it to name %q", name, err, test.wrong)
		}
	}
}

func TestKeysAreWatched(t *testing.T) {
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 32)
	client, events := fake.NewClientset(secret(map[string]string{"key": a})), record.NewFakeRecorder(10)
	used, ended := make(chan [][]byte, 10), make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	refuse := errors.New("refused")
	go func() {
		ended <- WatchKeys(ctx, KeysConfig{
			Client: client, Namespace: "fairlead-system", Name: GossipSecret, Recorder: events,
			Use: func(keys [][]byte) error {
				used <- keys
				if len(keys) == 3 {
					return refuse
				}
				return nil
			},
		})
	}()
	want := func(keys ...string) {
		t.Helper()
		select {
		case got := <-used:
			if !slices.EqualFunc(got, keys, func(g []byte, k string) bool { return bytes.Equal(g, []byte(k)) }) {
				t.Errorf("got %q, want %q", got, keys)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%q were not given", keys)
		}
	}
	write := func(data map[string]string) {
		t.Helper()
		if _, err := client.CoreV1().Secrets("fairlead-system").Update(ctx, secret(data), metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	told := func(part string) {
		t.Helper()
		select {
		case event := <-events.Events:
			if !strings.Contains(event, "Warning BadGossipKey") || !strings.Contains(event, part) {
				t.Errorf("event %q, want %q", event, part)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no event of %q", part)
		}
	}
	want(a)
	write(map[string]string{"key": a, "next": b})
	want(a, b)
	write(map[string]string{"key": "short"})
	told("has 5 bytes")
	write(map[string]string{"key": b, "one": a, "two": a})
	want(b, a, a)
	told("refused")
	write(map[string]string{"key": b})
	want(b)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
