package gossip

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/pkg/host/netnstest"
)

// repetitions of a fault in one benchmark.
const repetitions = 25

// BenchmarkKernelDetection measures the time from a fault until the first and the last of the others hold the member dead, which is
// one that three others watch. Ask
// for one iteration: it repeats the fault by itself.
func BenchmarkKernelDetection(b *testing.B) {
	netnstest.Require(b)
	for _, size := range []int{3, 20} {
		for fault, play := range map[string]struct {
			kill, mend func(*process)
			held       func(State) bool
		}{
			"killed": {(*process).kill, (*process).start, func(s State) bool { return !s.Alive && s.Refused }},
			"silent": {func(p *process) { p.link(false) }, func(p *process) { p.link(true) }, quiet},
		} {
			b.Run(fmt.Sprintf("%s/members=%d", fault, size), func(b *testing.B) {
				if size > 3 && runtime.NumCPU() == 1 {
					b.Skip("twenty members that start at once leave one processor no time to hear any of them")
				}
				members := lan(b, size, networks["IPv4"])
				time.Sleep(2*lately + time.Second) // until they know how slow answers are
				for b.Loop() {
					var first, last []time.Duration
					for i := range repetitions {
						victim := members[i%watchedMembers]
						time.Sleep(time.Second + time.Duration(i)*37*time.Millisecond) // at rest, and at any phase of a probe
						since := boot()
						play.kill(victim)
						f, l := verdicts(b, members, victim, since, play.held)
						first, last = append(first, f), append(last, l)
						play.mend(victim)
						together(b, members)
					}
					for name, all := range map[string][]time.Duration{"first": first, "last": last} {
						slices.Sort(all)
						b.ReportMetric(float64(all[len(all)/2].Milliseconds()), name+"-p50-ms")
						b.ReportMetric(float64(all[len(all)*99/100].Milliseconds()), name+"-p99-ms")
						b.ReportMetric(float64(all[len(all)-1].Milliseconds()), name+"-max-ms")
					}
				}
			})
		}
	}
}

// BenchmarkKernelRest measures what one member costs while nothing happens: processor time and bytes sent and received.
func BenchmarkKernelRest(b *testing.B) {
	netnstest.Require(b)
	for _, size := range []int{3, 20} {
		b.Run(fmt.Sprintf("members=%d", size), func(b *testing.B) {
			members := lan(b, size, networks["IPv4"])
			time.Sleep(3 * time.Second)
			for b.Loop() {
				const measured = 10 * time.Second
				ticks, bytes := members[0].used(b)
				time.Sleep(measured)
				ticksAfter, bytesAfter := members[0].used(b)
				// USER_HZ is 100 on every architecture that Go runs on (proc_pid_stat(5)).
				b.ReportMetric(float64(ticksAfter-ticks)*10/measured.Seconds(), "cpu-ms/s")
				b.ReportMetric(float64(bytesAfter-bytes)/measured.Seconds(), "bytes/s")
			}
		})
	}
}

// used is the processor time (ticks) of a member, and the bytes that its interface sent and received.
func (p *process) used(b *testing.B) (ticks, octets int) {
	b.Helper()
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	// The fields after the name, which is in parentheses, begin with the third: utime is the 14th, stime the 15th.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	ticks = number(fields[11]) + number(fields[12])
	devices, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", p.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(devices)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "eth0:"); ok {
			counts := strings.Fields(rest)
			octets = number(counts[0]) + number(counts[8])
		}
	}
	return ticks, octets
}
