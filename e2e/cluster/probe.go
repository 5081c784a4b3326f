package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/e2e/lab/probe"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// What package probe takes and tells.
type (
	// ProbeOptions are how to ask.
	ProbeOptions = probe.Options
	// ProbeEvent tells that a URL began or ceased to answer.
	ProbeEvent = probe.Event
	// ProbeSummary is what became of all requests to a URL.
	ProbeSummary = probe.Summary
)

// Defaults of a probe.
const (
	ProbeEvery   = 20 * time.Millisecond
	ProbeTimeout = 250 * time.Millisecond
)

// stopTimeout bounds how long a probe takes to sum up; its requests have timeouts of their own.
const stopTimeout = 30 * time.Second

// Probe is a probe that runs on a host.
type Probe struct {
	process wire.Process
	done    chan struct{}

	mu        sync.Mutex
	arrived   chan struct{}
	events    []ProbeEvent
	next      int
	summaries []ProbeSummary
	err       error
}

// Probe starts a probe. Zero options are the defaults.
func (l *Lab) Probe(ctx context.Context, host string, options ProbeOptions, urls ...string) (*Probe, error) {
	command := append(probeCommand(options), urls...)
	reader, writer := io.Pipe()
	var errs bytes.Buffer
	process, err := l.start(ctx, host, Stdio{Out: writer, Err: &errs}, command)
	if err != nil {
		return nil, fmt.Errorf("probe from %s: %w", host, err)
	}
	p := &Probe{process: process, done: make(chan struct{}), arrived: make(chan struct{})}
	read := make(chan error, 1)
	go func() { read <- p.read(reader) }()
	go func() {
		status, err := process.Wait()
		_ = writer.Close()
		if readErr := <-read; err == nil {
			err = readErr
		}
		// Status 1 says that a URL never answered, which the summary tells too.
		if err == nil && status > 1 {
			err = &ExitError{Status: status, Stderr: errs.String()}
		}
		if err != nil {
			p.err = fmt.Errorf("probe from %s: %w", host, err)
		}
		close(p.done)
	}()
	return p, nil
}

func probeCommand(options ProbeOptions) []string {
	if options.Every == 0 {
		options.Every = ProbeEvery
	}
	if options.Timeout == 0 {
		options.Timeout = ProbeTimeout
	}
	command := []string{
		"lab", "probe", "--every", options.Every.String(), "--timeout", options.Timeout.String(),
		"--fresh=" + strconv.FormatBool(!options.Keep), "--until-answer=" + strconv.FormatBool(options.UntilAnswer),
	}
	if options.For > 0 {
		command = append(command, "--for", options.For.String())
	}
	if options.Count > 0 {
		command = append(command, "--count", strconv.Itoa(options.Count))
	}
	return append(command, "--")
}

// read takes the probe's lines: events as they come, summaries at the end.
func (p *Probe) read(lines *io.PipeReader) error {
	decoder := json.NewDecoder(lines)
	for {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = p.take(raw)
		}
		if err != nil {
			lines.CloseWithError(err)
			return fmt.Errorf("read its output: %w", err)
		}
	}
}

func (p *Probe) take(raw json.RawMessage) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var summary ProbeSummary
	if err := json.Unmarshal(raw, &summary); err == nil && summary.URL != "" {
		p.summaries = append(p.summaries, summary)
		return nil
	}
	var event ProbeEvent
	if err := json.Unmarshal(raw, &event); err != nil {
		return err
	}
	p.events = append(p.events, event)
	close(p.arrived)
	p.arrived = make(chan struct{})
	return nil
}

// Next waits for the next event, in the order in which the prober knew them.
func (p *Probe) Next(ctx context.Context) (ProbeEvent, error) {
	for {
		p.mu.Lock()
		if p.next < len(p.events) {
			event := p.events[p.next]
			p.next++
			p.mu.Unlock()
			return event, nil
		}
		arrived := p.arrived
		p.mu.Unlock()
		select {
		case <-arrived:
		case <-p.done:
			// One may have come in between.
			if p.exhausted() {
				return ProbeEvent{}, errors.Join(errors.New("the probe has ended"), p.err)
			}
		case <-ctx.Done():
			return ProbeEvent{}, fmt.Errorf("wait for the probe's next event: %w", ctx.Err())
		}
	}
}

func (p *Probe) exhausted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next == len(p.events)
}

// Events are all events so far.
func (p *Probe) Events() []ProbeEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// Stop ends the probe and returns a summary per URL.
func (p *Probe) Stop() ([]ProbeSummary, error) {
	// It fails only if the probe has ended.
	_ = p.process.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return p.Wait(ctx)
}

// Wait waits for the end of a probe that ends by itself and returns a summary per URL.
func (p *Probe) Wait(ctx context.Context) ([]ProbeSummary, error) {
	select {
	case <-p.done:
		return p.summaries, p.err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the probe's end: %w", ctx.Err())
	}
}
