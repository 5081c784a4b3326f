package driver

import (
	"context"
	"time"
)

// A slow store stands still for most of the time, so that a write waits for the next moment in which it works.
const (
	storeRests = 1950 * time.Millisecond
	storeWorks = 50 * time.Millisecond
)

func (d *Driver) slowStore(context.Context) error {
	if d.quicken != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.rest(ctx) }()
	d.quicken = func() error {
		cancel()
		return <-ended
	}
	return nil
}

// rest stops and continues etcd until the context ends.
func (d *Driver) rest(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := d.etcd.freeze(); err != nil {
			return err
		}
		pause(ctx, storeRests)
		if err := d.etcd.thaw(); err != nil {
			return err
		}
		pause(ctx, storeWorks)
	}
	return nil
}

func (d *Driver) quickStore(context.Context) error {
	if d.quicken == nil {
		return nil
	}
	quicken := d.quicken
	d.quicken = nil
	return quicken()
}

func pause(ctx context.Context, long time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(long):
	}
}
