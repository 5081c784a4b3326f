// Package probe asks URLs at a steady pace and tells when they stop and start to answer. Its statistics are pure and hold
// no clock: every time in them is the prober's.
package probe

import (
	"slices"
	"time"
)

// Result is one request's.
type Result struct {
	URL        string
	Sent, Done time.Time
	// Answered says that a good answer came in time; By is its first word.
	Answered bool
	By       string
	// Why it was not answered, in words that are the same for the same reason.
	Why string
}

// Event tells that a URL began or ceased to answer. The first result of a URL is one too.
type Event struct {
	// T is when the result was known, Sent when its request was sent, in nanoseconds since 1970.
	T    int64  `json:"t"`
	Sent int64  `json:"sent"`
	URL  string `json:"url"`
	Up   bool   `json:"up"`
	By   string `json:"by,omitempty"`
}

// Summary is what became of all requests to a URL.
type Summary struct {
	URL      string `json:"summary"`
	Sent     int    `json:"sent"`
	Answered int    `json:"answered"`
	Failed   int    `json:"failed"`
	// Skipped requests were not sent because too many others had no result yet.
	Skipped int `json:"skipped,omitempty"`
	// By counts answers by name.
	By map[string]int `json:"by"`
	// Why counts failures by reason.
	Why map[string]int `json:"why,omitempty"`
	// FirstAnswerMS is from the probe's start to the arrival of the first answer; -1 if none came.
	FirstAnswerMS float64 `json:"first_answer_ms"`
	// LongestGapMS is the longest time from the sending of one request that was answered to the sending of the next one
	// that was, or to the last request sent at all. With no failure it is the probe's own pace. The time before the first
	// answered request does not count.
	LongestGapMS float64 `json:"longest_gap_ms"`
	// FirstFailed is when the first request that failed was sent, as logs of programs write it; empty for none.
	FirstFailed string `json:"first_failed,omitempty"`
	// FailedForMS is from the sending of the first request that failed to that of the last: longer than the gap where some
	// were answered in between, as by those backends that could be had. 0 for one or none.
	FailedForMS float64 `json:"failed_for_ms"`
	// LongestPauseMS is the longest time from the sending of one request to that of the next. Where it is well above the
	// probe's pace the machine held the prober itself up, and gaps are not the probed one's alone.
	LongestPauseMS float64 `json:"longest_pause_ms"`
	// P50MS and P99MS are of the time from sending to answer.
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
}

// Tracker gathers the results of one URL, in any order.
type Tracker struct {
	url     string
	start   time.Time
	seen    bool
	up      bool
	latest  time.Time
	skipped int
	results []Result
}

// NewTracker begins at start.
func NewTracker(url string, start time.Time) *Tracker { return &Tracker{url: url, start: start} }

// Add takes a result. The event is valid if the result is news: results of requests sent before the latest one known do
// not change what is known.
func (t *Tracker) Add(r Result) (Event, bool) {
	t.results = append(t.results, r)
	if t.seen && r.Sent.Before(t.latest) {
		return Event{}, false
	}
	t.latest = r.Sent
	if t.seen && t.up == r.Answered {
		return Event{}, false
	}
	t.seen, t.up = true, r.Answered
	return Event{T: r.Done.UnixNano(), Sent: r.Sent.UnixNano(), URL: t.url, Up: r.Answered, By: r.By}, true
}

// Skip counts a request that was not sent.
func (t *Tracker) Skip() { t.skipped++ }

// Summary sums up.
func (t *Tracker) Summary() Summary {
	s := Summary{URL: t.url, Sent: len(t.results), Skipped: t.skipped, By: map[string]int{}, FirstAnswerMS: -1}
	results := slices.Clone(t.results)
	slices.SortFunc(results, func(a, b Result) int { return a.Sent.Compare(b.Sent) })
	var latencies []time.Duration
	var previous, failed time.Time
	for i, r := range results {
		if r.Answered {
			s.Answered++
			s.By[r.By]++
			latencies = append(latencies, r.Done.Sub(r.Sent))
			if first := ms(r.Done.Sub(t.start)); s.FirstAnswerMS < 0 || first < s.FirstAnswerMS {
				s.FirstAnswerMS = first
			}
		} else {
			s.Failed++
			if failed.IsZero() {
				failed, s.FirstFailed = r.Sent, r.Sent.Format("15:04:05.000")
			}
			s.FailedForMS = ms(r.Sent.Sub(failed))
			s.count(r.Why)
		}
		if i > 0 {
			s.LongestPauseMS = max(s.LongestPauseMS, ms(r.Sent.Sub(results[i-1].Sent)))
		}
		if (r.Answered || i == len(results)-1) && !previous.IsZero() {
			s.LongestGapMS = max(s.LongestGapMS, ms(r.Sent.Sub(previous)))
		}
		if r.Answered {
			previous = r.Sent
		}
	}
	slices.Sort(latencies)
	s.P50MS, s.P99MS = ms(quantile(latencies, 50)), ms(quantile(latencies, 99))
	return s
}

func (s *Summary) count(why string) {
	if why == "" {
		return
	}
	if s.Why == nil {
		s.Why = map[string]int{}
	}
	s.Why[why]++
}

// quantile is the nearest-rank one of sorted values.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max((len(sorted)*percent+99)/100, 1)-1]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
