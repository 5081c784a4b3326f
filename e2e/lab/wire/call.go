package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
)

// Dialer opens a connection to a server of this protocol.
type Dialer func(ctx context.Context) (net.Conn, error)

// Handler answers one call. What it returns is the result; a handler that runs a command uses conn until then.
type Handler func(ctx context.Context, conn *Conn, args json.RawMessage) (any, error)

type call struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

type result struct {
	Error string          `json:"error,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
}

// Call asks op of the server and decodes its answer into value, which may be nil.
func Call(ctx context.Context, dial Dialer, op string, args, value any) error {
	conn, err := open(ctx, dial, op, args)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	for {
		kind, payload, err := conn.Recv()
		if err != nil {
			if ctx.Err() != nil {
				return fmt.Errorf("%s: %w", op, ctx.Err())
			}
			return fmt.Errorf("%s: connection lost: %w", op, err)
		}
		if kind == KindResult {
			return decodeResult(payload, value)
		}
	}
}

func open(ctx context.Context, dial Dialer, op string, args any) (*Conn, error) {
	raw, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	conn := NewConn(raw)
	encoded, err := json.Marshal(args)
	if err == nil {
		encoded, err = json.Marshal(call{Op: op, Args: encoded})
	}
	if err == nil {
		err = conn.Send(KindCall, encoded)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: send call: %w", op, err)
	}
	return conn, nil
}

func decodeResult(payload []byte, value any) error {
	var r result
	if err := json.Unmarshal(payload, &r); err != nil {
		return fmt.Errorf("decode result: %w", err)
	}
	if r.Error != "" {
		return errors.New(r.Error)
	}
	if value == nil || len(r.Value) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Value, value); err != nil {
		return fmt.Errorf("decode result: %w", err)
	}
	return nil
}

// Serve answers calls until ctx ends or the listener fails, then waits for the handlers that still run. It closes the
// listener.
func Serve(ctx context.Context, listener net.Listener, handlers map[string]Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		raw, err := listener.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept on %s: %w", listener.Addr(), err)
		}
		running.Go(func() {
			conn := NewConn(raw)
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			answer(ctx, conn, handlers)
		})
	}
}

// answer serves one connection. A peer that goes away gets no answer, and that is no error of ours.
func answer(ctx context.Context, conn *Conn, handlers map[string]Handler) {
	kind, payload, err := conn.Recv()
	if err != nil || kind != KindCall {
		return
	}
	var c call
	var r result
	if err := json.Unmarshal(payload, &c); err != nil {
		r.Error = fmt.Sprintf("decode call: %v", err)
	} else if handler, ok := handlers[c.Op]; !ok {
		r.Error = fmt.Sprintf("no operation is named %q: client and server are of different builds", c.Op)
	} else {
		r = resultOf(handler(ctx, conn, c.Args))
	}
	encoded, err := json.Marshal(r)
	if err != nil {
		return
	}
	// The peer may be gone by now; there is nobody left to tell.
	if conn.Send(KindResult, encoded) == nil {
		conn.finish()
	}
}

func resultOf(value any, err error) result {
	if err != nil {
		return result{Error: err.Error()}
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		return result{Error: fmt.Sprintf("encode result: %v", err)}
	}
	return result{Value: encoded}
}

// Handle makes a Handler of a function over decoded arguments.
func Handle[Args, Value any](f func(ctx context.Context, args Args) (Value, error)) Handler {
	return func(ctx context.Context, _ *Conn, raw json.RawMessage) (any, error) {
		var args Args
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, fmt.Errorf("decode arguments: %w", err)
		}
		return f(ctx, args)
	}
}
