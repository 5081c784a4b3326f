package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

// asks is how often the client asks each address: enough to meet every backend.
const asks = 12

func (p *play) ask(ctx context.Context) error {
	for _, url := range urls(p.vips) {
		by := map[string]int{}
		var last string
		for range asks {
			answer, err := p.Output(ctx, "client", "curl", "-s", "--max-time", "2", url)
			if err != nil {
				return err
			}
			name, _, _ := strings.Cut(answer, " ")
			by[name]++
			last = answer
		}
		p.story.show("curl "+url, last+"   (backend, and the address it saw)")
		p.story.say("%d answers: %v", asks, by)
		if len(by) != 2 {
			return fmt.Errorf("%s was answered by %v, not by both backends", url, by)
		}
	}
	return nil
}

func (p *play) showHolders(ctx context.Context) error {
	for _, addr := range p.vips {
		if _, err := p.Holder(ctx, addr, ""); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"get", "vips"},
		{"get", "ippools"},
		{"-n", scenario.SystemNamespace, "get", "leases"},
	} {
		if err := p.story.kubectl(ctx, args...); err != nil {
			return err
		}
	}
	node, err := p.Holder(ctx, p.vips[0], "")
	if err != nil {
		return err
	}
	for _, command := range []string{"ip -br addr show eth0", "ipvsadm -Ln", "nft list table inet fairlead"} {
		output, err := p.Output(ctx, node, "sh", "-c", command)
		if err != nil {
			return err
		}
		p.story.show("lab exec "+node+" "+command, output)
	}
	return nil
}

// killSpeaker kills the speaker of the first VIP's holder, which nobody restarts.
func (p *play) killSpeaker(ctx context.Context) error {
	node, err := p.Holder(ctx, p.vips[0], "")
	if err != nil {
		return err
	}
	gap, err := p.strike(ctx, cluster.KillSpeaker, node)
	if err != nil {
		return err
	}
	p.story.figure("killed_speaker_ms", gap)
	return p.Fault(ctx, cluster.StartSpeaker, node)
}

// powerOff switches off a holder that is not the machine of the web servers.
func (p *play) powerOff(ctx context.Context) error {
	var node string
	for _, addr := range p.vips {
		holder, err := p.Holder(ctx, addr, "")
		if err != nil {
			return err
		}
		if holder != p.podsOn {
			node = holder
		}
	}
	if node == "" {
		return fmt.Errorf("node %s, where the web servers are, holds every VIP: %v", p.podsOn, p.vips)
	}
	gap, err := p.strike(ctx, cluster.PowerOff, node)
	if err != nil {
		return err
	}
	p.story.figure("powered_off_ms", gap)
	return p.Fault(ctx, cluster.PowerOn, node)
}

// strike lets a fault hit a node while a client asks, waits until its VIPs are held by others and answer, and returns the
// longest time without an answer, in milliseconds.
func (p *play) strike(ctx context.Context, fault cluster.FaultKind, node string) (float64, error) {
	var hit []netip.Addr
	for _, addr := range p.vips {
		holder, err := p.Holder(ctx, addr, "")
		if err != nil {
			return 0, err
		}
		if holder == node {
			hit = append(hit, addr)
		}
	}
	probe, err := p.Probe(ctx, "client", cluster.ProbeOptions{}, urls(hit)...)
	if err != nil {
		return 0, err
	}
	time.Sleep(time.Second) // a second of answers before, to see the gap from its start
	p.story.say("$ lab fault %s %s        (it holds %v)", fault, node, hit)
	if err := p.Fault(ctx, fault, node); err != nil {
		return 0, err
	}
	for _, addr := range hit {
		holder, err := p.Holder(ctx, addr, node)
		if err != nil {
			return 0, err
		}
		p.story.say("%s moved to %s", addr, holder)
	}
	if err := scenario.Until(ctx, func() error { return allUp(probe, urls(hit)) }); err != nil {
		return 0, err
	}
	time.Sleep(time.Second)
	summaries, err := probe.Stop()
	if err != nil {
		return 0, err
	}
	longest := 0.0
	for _, summary := range summaries {
		p.story.say("%s: %d of %d requests answered, longest time without an answer %.0f ms",
			summary.URL, summary.Answered, summary.Sent, summary.LongestGapMS)
		longest = max(longest, summary.LongestGapMS)
	}
	return longest, nil
}

// allUp returns an error unless the last event of every URL is that it answers.
func allUp(probe *cluster.Probe, urls []string) error {
	up := map[string]bool{}
	for _, event := range probe.Events() {
		up[event.URL] = event.Up
	}
	for _, url := range urls {
		if !up[url] {
			return fmt.Errorf("%s does not answer", url)
		}
	}
	return nil
}

func (p *play) deleteService(ctx context.Context) error {
	started := time.Now()
	if _, err := kubectl(ctx, "", "delete", "service", "web"); err != nil {
		return err
	}
	if err := p.Gone(ctx, p.vips...); err != nil {
		return err
	}
	p.story.figure("gone_ms", milliseconds(time.Since(started)))
	names := make([]string, 0, len(p.vips))
	for _, addr := range p.vips {
		names = append(names, addr.String())
	}
	slices.Sort(names)
	p.story.say("%s: no VIP object, no claim Lease, and on no node an address, an IPVS service or an nftables element",
		strings.Join(names, " and "))
	return p.story.kubectl(ctx, "get", "ippools")
}
