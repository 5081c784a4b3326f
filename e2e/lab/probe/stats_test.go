package probe

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

var start = time.Unix(1000, 0).UTC()

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

func up(sent, done int, by string) Result {
	return Result{Sent: at(sent), Done: at(done), Answered: true, By: by}
}

func down(sent, done int) Result { return Result{Sent: at(sent), Done: at(done)} }

func TestSummary(t *testing.T) {
	for name, test := range map[string]struct {
		results []Result
		want    Summary
	}{
		"nothing was sent": {nil, Summary{FirstAnswerMS: -1, By: map[string]int{}}},
		"nothing answered": {
			[]Result{down(0, 250), down(20, 270)},
			Summary{Sent: 2, Failed: 2, FirstAnswerMS: -1, FirstFailed: "00:16:40.000", FailedForMS: 20, LongestPauseMS: 20, By: map[string]int{}},
		},
		"without a failure the longest gap is the pace": {
			[]Result{up(0, 1, "a"), up(20, 22, "b"), up(40, 45, "a")},
			Summary{
				Sent: 3, Answered: 3, FirstAnswerMS: 1, LongestGapMS: 20, LongestPauseMS: 20, P50MS: 2, P99MS: 5,
				By: map[string]int{"a": 2, "b": 1},
			},
		},
		"a gap is from sending to sending": {
			[]Result{up(0, 1, "a"), down(20, 270), down(40, 290), up(60, 160, "b")},
			Summary{
				Sent: 4, Answered: 2, Failed: 2, FirstAnswerMS: 1, LongestGapMS: 60, FirstFailed: "00:16:40.020", FailedForMS: 20,
				LongestPauseMS: 20, P50MS: 1, P99MS: 100, By: map[string]int{"a": 1, "b": 1},
			},
		},
		"a gap that has not ended counts, the time before the first answer does not": {
			[]Result{down(0, 250), down(100, 350), up(200, 205, "a"), down(220, 470), down(320, 570)},
			Summary{
				Sent: 5, Answered: 1, Failed: 4, FirstAnswerMS: 205, LongestGapMS: 120, FirstFailed: "00:16:40.000", FailedForMS: 320,
				LongestPauseMS: 100, P50MS: 5, P99MS: 5, By: map[string]int{"a": 1},
			},
		},
	} {
		test.want.URL = "u"
		for range 20 {
			tracker := NewTracker("u", start)
			rand.Shuffle(len(test.results), func(i, j int) {
				test.results[i], test.results[j] = test.results[j], test.results[i]
			})
			for _, r := range test.results {
				tracker.Add(r)
			}
			if got := tracker.Summary(); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%s: got %+v, want %+v", name, got, test.want)
			}
		}
	}
}

func TestEventsAreOfChanges(t *testing.T) {
	tracker := NewTracker("u", start)
	for i, step := range []struct {
		result Result
		news   bool
	}{
		{down(0, 250), true},
		{down(20, 270), false},
		{up(60, 61, "a"), true},
		{down(40, 290), false}, // sent before what is known, known after
		{up(80, 81, "b"), false},
		{down(100, 350), true},
	} {
		event, news := tracker.Add(step.result)
		if news != step.news {
			t.Errorf("step %d: news %t, want %t", i, news, step.news)
		}
		if news && (event.Up != step.result.Answered || event.Sent != step.result.Sent.UnixNano() ||
			event.T != step.result.Done.UnixNano() || event.URL != "u" || event.By != step.result.By) {
			t.Errorf("step %d: event %+v of result %+v", i, event, step.result)
		}
	}
}

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for _, test := range []struct {
		values  []time.Duration
		percent int
		want    time.Duration
	}{{nil, 50, 0}, {hundred, 50, 50}, {hundred, 99, 99}, {hundred[:1], 99, 1}, {hundred[:2], 50, 1}, {hundred[:2], 99, 2}} {
		if got := quantile(test.values, test.percent); got != test.want {
			t.Errorf("p%d of %d values is %d, want %d", test.percent, len(test.values), got, test.want)
		}
	}
}
