package agent

import (
	"context"
	"strconv"

	"github.com/fairlead/fairlead/e2e/lab/machine"
	"github.com/fairlead/fairlead/e2e/lab/wire"
)

// Client is the machine behind an agent.
type Client struct{ dial wire.Dialer }

// NewClient makes a client of the agent that dial reaches.
func NewClient(dial wire.Dialer) *Client { return &Client{dial: dial} }

// Add makes a host and its network.
func (c *Client) Add(ctx context.Context, host machine.Host) error {
	return wire.Call(ctx, c.dial, "add", host, nil)
}

// Configure makes links, addresses and routes on a host.
func (c *Client) Configure(ctx context.Context, host string, network machine.Network) error {
	return wire.Call(ctx, c.dial, "configure", hostArgs{Host: host, Network: network}, nil)
}

// Delete removes a host with all that runs on it.
func (c *Client) Delete(ctx context.Context, host string) error {
	return wire.Call(ctx, c.dial, "delete", hostArgs{Host: host}, nil)
}

// Unplug takes every link of a host down.
func (c *Client) Unplug(ctx context.Context, host string) error {
	return wire.Call(ctx, c.dial, "unplug", hostArgs{Host: host}, nil)
}

// Start runs a command on a host; it ends with ctx.
func (c *Client) Start(ctx context.Context, command machine.Command, stdio wire.Stdio) (wire.Process, error) {
	return wire.Start(ctx, c.dial, "start", command, stdio)
}

// RSS is the resident memory of processes in bytes.
func (c *Client) RSS(ctx context.Context, pids []int) (map[int]int64, error) {
	var texts map[string]int64
	if err := wire.Call(ctx, c.dial, "rss", pids, &texts); err != nil {
		return nil, err
	}
	sizes := make(map[int]int64, len(texts))
	for text, size := range texts {
		if pid, err := strconv.Atoi(text); err == nil {
			sizes[pid] = size
		}
	}
	return sizes, nil
}
