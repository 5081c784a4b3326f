package scenario

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/e2e/cluster"
)

// Announcement is a packet in which a host says that it has an address: an ARP request or reply that names it as its
// sender's, or a neighbour advertisement.
type Announcement struct {
	At   time.Duration // since 1970, by the clock of all of the lab
	Addr netip.Addr
	MAC  string // of the frame's sender
}

// heard takes tcpdump's lines with time (-tt) and link level (-e).
var heard = regexp.MustCompile(`^([0-9]+\.[0-9]+) ([0-9a-f:]{17}) > .*(?:tell|Reply|neighbor advertisement, tgt is) ([0-9a-f.:]+)`)

// Hear notes what hosts announce as a host of the LAN hears it, until it is told to stop and give account.
func (s *Scenario) Hear(ctx context.Context, host string) (stop func() ([]Announcement, error), err error) {
	reader, writer := io.Pipe()
	signals, ended := make(chan os.Signal, 1), make(chan error, 1)
	var errs bytes.Buffer
	go func() {
		err := s.Exec(ctx, host, cluster.Stdio{Out: writer, Err: &errs, Signals: signals},
			"sh", "-c", "exec tcpdump -i eth0 -l -e -n -tt 'arp or (icmp6 and ip6[40] == 136)' 2>&1")
		_ = writer.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(reader)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "listening on") {
	}
	if lines.Err() != nil || lines.Text() == "" {
		return nil, fmt.Errorf("tcpdump on %s does not listen: %w: %s", host, errors.Join(lines.Err(), <-ended), errs.String())
	}
	var all []Announcement
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines.Scan() {
			if a, ok := parseAnnouncement(lines.Text()); ok {
				all = append(all, a)
			}
		}
	})
	return func() ([]Announcement, error) {
		signals <- syscall.SIGTERM
		err := <-ended
		reading.Wait()
		return all, errors.Join(err, lines.Err())
	}, nil
}

func parseAnnouncement(line string) (Announcement, bool) {
	fields := heard.FindStringSubmatch(line)
	if fields == nil {
		return Announcement{}, false
	}
	at, err := time.ParseDuration(fields[1] + "s")
	if err != nil {
		return Announcement{}, false
	}
	addr, err := netip.ParseAddr(fields[3])
	return Announcement{At: at, Addr: addr, MAC: fields[2]}, err == nil
}

// Overlap is for how long a host went on announcing an address after the next one began, the longest such time; and how many
// hosts announced it.
func Overlap(all []Announcement, addr netip.Addr) (longest time.Duration, hosts int) {
	first, last := map[string]time.Duration{}, map[string]time.Duration{}
	for _, a := range all {
		if a.Addr != addr {
			continue
		}
		if _, known := first[a.MAC]; !known {
			first[a.MAC] = a.At
		}
		last[a.MAC] = a.At
	}
	for mac, until := range last {
		for other, from := range first {
			if other != mac && from > first[mac] {
				longest = max(longest, until-from)
			}
		}
	}
	return longest, len(first)
}
