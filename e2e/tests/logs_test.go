package tests

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/scenario"
)

// lastWords is how many lines of each log a test that failed prints: CI keeps what a test prints, and not the lab's logs.
const lastWords = 60

// tellWhy has a test that fails print what the product's processes said meanwhile, and how busy the machine was.
func tellWhy(t testing.TB, s *scenario.Scenario) {
	t.Helper()
	before, began := procTicks(), map[string]int64{}
	for name, path := range logs(t, s) {
		if info, err := os.Stat(path); err == nil {
			began[name] = info.Size()
		}
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		t.Logf("of the processors' time %s", procTicks().since(before))
		for name, path := range logs(t, s) {
			said, err := since(path, began[name])
			if err != nil {
				t.Logf("the log of %s: %v", name, err)
				continue
			}
			t.Logf("the last words of %s:\n%s", name, strings.Join(said, ""))
		}
	})
}

// ticks are the processors' times in hundredths of a second, as in the first line of /proc/stat (proc(5)): user, nice, system,
// idle, iowait, irq, softirq, steal.
type ticks [8]float64

// procTicks are this machine's, on which the lab's guest is a process.
func procTicks() (t ticks) {
	text, _ := os.ReadFile("/proc/stat")
	for i, field := range strings.Fields(string(text)) {
		if 0 < i && i <= len(t) {
			t[i-1], _ = strconv.ParseFloat(field, 64)
		}
	}
	return t
}

func (t ticks) since(before ticks) string {
	var all float64
	for i := range t {
		t[i] -= before[i]
		all += t[i]
	}
	return fmt.Sprintf("%.0f %% was idle, and %.0f %% the host took", 100*t[3]/all, 100*t[7]/all)
}

// logs are the paths of the product's logs, by process.
func logs(t testing.TB, s *scenario.Scenario) map[string]string {
	t.Helper()
	processes, err := s.Processes(context.Background())
	must(t, err)
	out := map[string]string{}
	for _, process := range processes {
		if strings.HasPrefix(process.Name, "fairlead-") {
			out[process.Name] = process.Log
		}
	}
	return out
}

// since are the last lines of a file after an offset.
func since(path string, offset int64) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(file)
	lines := slices.Collect(strings.Lines(string(text)))
	return lines[max(0, len(lines)-lastWords):], err
}
