package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// TestTimesAreByTheServersClock: with a clock that is an hour wrong every speaker would look dead, or none.
func TestTimesAreByTheServersClock(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		http.Error(w, "no", http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "config")
	kubeconfig := `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "` + server.URL + `"}}]
contexts: [{name: a, context: {cluster: c, namespace: shop}}, {name: b, context: {cluster: c}}]
current-context: b
`
	if err := os.WriteFile(file, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	var to connection
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	to.addFlags(flags)
	if err := flags.Parse([]string{"--kubeconfig", file, "--context", "a"}); err != nil {
		t.Fatal(err)
	}
	if err := to.connect(); err != nil {
		t.Fatal(err)
	}
	if to.namespace != "shop" {
		t.Errorf("namespace %q is not the one of the context", to.namespace)
	}
	if _, err := to.facts(t.Context()); err == nil || !strings.Contains(err.Error(), "read VIPs") {
		t.Errorf("%v", err)
	}
	if ahead := time.Until(to.now()); ahead < 59*time.Minute || ahead > 61*time.Minute {
		t.Errorf("its time is %v ahead of this machine's, not an hour", ahead)
	}
}
