package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Options are how a probe asks.
type Options struct {
	// Every is the pace of each URL, Timeout how long each request may take.
	Every, Timeout time.Duration
	// For and Count end the probe if they are not zero.
	For   time.Duration
	Count int
	// UntilAnswer ends the probe once every URL has answered.
	UntilAnswer bool
	// Keep reuses connections; without it every request makes its own.
	Keep bool
}

// minInFlight is how many requests of a URL may be without a result at least.
const minInFlight = 64

// prober is one run.
type prober struct {
	options  Options
	ask      func(ctx context.Context, url string) (string, error)
	mu       sync.Mutex
	trackers map[string]*Tracker
	waiting  map[string]int
	missing  map[string]bool
	output   *json.Encoder
	err      error
	stop     context.CancelFunc
}

// Run asks urls until ctx ends or the options say so, then writes a summary per URL. Events and summaries are JSON lines
// on w, each written at once. It reports whether every URL answered at least once.
func Run(ctx context.Context, options Options, urls []string, w io.Writer) (bool, error) {
	urls = slices.Compact(slices.Sorted(slices.Values(urls)))
	asker, err := newAsker(urls, options)
	if err != nil {
		return false, err
	}
	if options.Every <= 0 || options.Timeout <= 0 {
		return false, fmt.Errorf("every %s, timeout %s: both must be longer than nothing", options.Every, options.Timeout)
	}
	defer asker.close()
	if options.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, options.For)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &prober{
		options: options, ask: asker.ask, trackers: map[string]*Tracker{}, waiting: map[string]int{},
		missing: map[string]bool{}, output: json.NewEncoder(w), stop: cancel,
	}
	hurry()
	start := time.Now()
	for _, url := range urls {
		p.trackers[url], p.missing[url] = NewTracker(url, start), true
	}
	p.run(ctx, urls)
	for _, url := range urls {
		p.write(p.trackers[url].Summary())
	}
	return len(p.missing) == 0, p.err
}

// run sends until ctx ends, then waits for what is in flight: requests end by themselves, by their timeout. URLs take turns
// within the pace: hundreds at once would be answered late because of each other.
func (p *prober) run(ctx context.Context, urls []string) {
	ticker := time.NewTicker(max(p.options.Every/time.Duration(len(urls)), 1))
	defer ticker.Stop()
	var requests sync.WaitGroup
	defer requests.Wait()
	for n := 1; ; n++ {
		url := urls[(n-1)%len(urls)]
		if p.begin(url) {
			requests.Go(func() { p.request(url) })
		}
		if n == p.options.Count*len(urls) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (p *prober) begin(url string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[url] >= max(minInFlight, int(p.options.Timeout/p.options.Every)+2) {
		p.trackers[url].Skip()
		return false
	}
	p.waiting[url]++
	return true
}

func (p *prober) request(url string) {
	ctx, cancel := context.WithTimeout(context.Background(), p.options.Timeout)
	defer cancel()
	sent := time.Now()
	by, err := p.ask(ctx, url)
	result := Result{URL: url, Sent: sent, Done: time.Now(), Answered: err == nil, By: by, Why: reason(err)}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[url]--
	if event, news := p.trackers[url].Add(result); news {
		p.write(event)
	}
	if result.Answered {
		delete(p.missing, url)
	}
	if p.options.UntilAnswer && len(p.missing) == 0 {
		p.stop()
	}
}

// write writes a line; without a reader there is no point in going on.
func (p *prober) write(line any) {
	if err := p.output.Encode(line); err != nil && p.err == nil {
		p.err = fmt.Errorf("write: %w", err)
		p.stop()
	}
}
