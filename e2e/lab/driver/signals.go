package driver

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Interrupted says that a signal ended the run before its command began.
type Interrupted struct{ Signal syscall.Signal }

func (i Interrupted) Error() string { return fmt.Sprintf("ended by signal: %s", i.Signal) }

// untilSignal is a context that the first signal cancels; its cause is Interrupted. Call stop before a command gets the
// signals.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, forwarded...)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-signals:
			number, _ := s.(syscall.Signal)
			cancel(Interrupted{number})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
		<-done
	}
}
