package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func lines(t *testing.T, out string) (events []Event, summaries []Summary) {
	t.Helper()
	for line := range strings.Lines(out) {
		var s Summary
		// An event is no summary: the types of its fields are others.
		if err := json.Unmarshal([]byte(line), &s); err == nil && s.URL != "" {
			summaries = append(summaries, s)
			continue
		}
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		events = append(events, e)
	}
	return events, summaries
}

func TestRunTellsOfAnOutage(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n := requests.Add(1); n > 5 && n <= 10 {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "web-1 127.0.0.1")
	}))
	defer server.Close()
	var out bytes.Buffer
	options := Options{Every: 10 * time.Millisecond, Timeout: 5 * time.Second, Count: 20}
	answered, err := Run(t.Context(), options, []string{server.URL, server.URL}, &out)
	if err != nil || !answered {
		t.Fatalf("answered %t, %v", answered, err)
	}
	events, summaries := lines(t, out.String())
	if len(summaries) != 1 || summaries[0].Sent != 20 || summaries[0].Failed != 5 || summaries[0].By["web-1"] != 15 {
		t.Errorf("summaries %+v", summaries)
	}
	if len(events) == 0 || !events[0].Up || events[0].By != "web-1" {
		t.Errorf("events %+v", events)
	}
}

func TestRunAsksEveryURLAsOften(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "x") }))
	defer server.Close()
	var out bytes.Buffer
	options := Options{Every: 30 * time.Millisecond, Timeout: 5 * time.Second, Count: 4}
	if answered, err := Run(t.Context(), options, []string{server.URL + "/1", server.URL + "/2", server.URL + "/3"}, &out); err != nil || !answered {
		t.Fatalf("answered %t, %v", answered, err)
	}
	_, summaries := lines(t, out.String())
	if len(summaries) != 3 {
		t.Fatalf("summaries %+v", summaries)
	}
	for _, seen := range summaries {
		if seen.Sent != 4 || seen.Answered != 4 {
			t.Errorf("summary %+v, want 4 requests answered", seen)
		}
	}
}

func TestRunUntilAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "x") }))
	defer server.Close()
	var out bytes.Buffer
	options := Options{Every: 5 * time.Millisecond, Timeout: 5 * time.Second, UntilAnswer: true}
	if answered, err := Run(t.Context(), options, []string{server.URL}, &out); err != nil || !answered {
		t.Errorf("answered %t, %v", answered, err)
	}
}

func TestRunSumsUpWhenItIsEnded(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	// Nothing listens on port 1.
	answered, err := Run(ctx, Options{Every: 10 * time.Millisecond, Timeout: time.Second}, []string{"tcp://127.0.0.1:1"}, &out)
	if err != nil || answered {
		t.Errorf("answered %t, %v", answered, err)
	}
	events, summaries := lines(t, out.String())
	if len(events) != 1 || events[0].Up || len(summaries) != 1 || summaries[0].FirstAnswerMS != -1 {
		t.Errorf("events %+v, summaries %+v", events, summaries)
	}
}

func TestURLsThatCannotBeAsked(t *testing.T) {
	for _, url := range []string{"ftp://x/", "tcp://host:80", "udp://10.0.0.1", "10.0.0.1:80", "http://%zz/"} {
		options := Options{Every: time.Second, Timeout: time.Second, Count: 1}
		if _, err := Run(t.Context(), options, []string{url}, &bytes.Buffer{}); err == nil {
			t.Errorf("%s was taken", url)
		}
	}
}
