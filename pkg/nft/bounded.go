package nft

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/knftables"
)

// runFor is how long the program nft may run: many times what 10,000 prefixes take on a slow machine. One that hangs would keep
// the node from taking up or letting go of anything, while its heartbeat tells that it lives.
const runFor = 30 * time.Second

// bounded is nftables by a program that is killed when it takes too long. What it was to change is then changed as a whole or
// not at all, and not known to be either.
type bounded struct {
	knftables.Interface
	runFor time.Duration
}

// program finds the program nft and checks that it works.
func program(table string) (knftables.Interface, error) {
	nft, err := knftables.New(knftables.InetFamily, table)
	if err != nil {
		return nil, err
	}
	return bounded{Interface: nft, runFor: runFor}, nil
}

func (b bounded) Run(ctx context.Context, tx *knftables.Transaction) error {
	_, err := within(ctx, b, func(ctx context.Context) (struct{}, error) { return struct{}{}, b.Interface.Run(ctx, tx) })
	return err
}

func (b bounded) Check(ctx context.Context, tx *knftables.Transaction) error {
	_, err := within(ctx, b, func(ctx context.Context) (struct{}, error) { return struct{}{}, b.Interface.Check(ctx, tx) })
	return err
}

func (b bounded) ListRules(ctx context.Context, chain string) ([]*knftables.Rule, error) {
	return within(ctx, b, func(ctx context.Context) ([]*knftables.Rule, error) { return b.Interface.ListRules(ctx, chain) })
}

func (b bounded) ListElements(ctx context.Context, kind, name string) ([]*knftables.Element, error) {
	return within(ctx, b, func(ctx context.Context) ([]*knftables.Element, error) {
		return b.Interface.ListElements(ctx, kind, name)
	})
}

// within runs the program for so long at most, and names the limit where it was reached: the error of a killed program does not.
func within[T any](ctx context.Context, b bounded, run func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, b.runFor)
	defer cancel()
	out, err := run(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("the program nft did not end within %v, and was killed: %w", b.runFor, err)
	}
	return out, err
}
