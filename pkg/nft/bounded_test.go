package nft

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/knftables"
)

// hanging is a program nft that ends only when it is killed.
type hanging struct{ knftables.Interface }

var errKilled = errors.New("signal: killed")

func (hanging) Run(ctx context.Context, _ *knftables.Transaction) error {
	<-ctx.Done()
	return errKilled
}

func (hanging) ListElements(ctx context.Context, _, _ string) ([]*knftables.Element, error) {
	<-ctx.Done()
	return nil, errKilled
}

func TestAProgramThatHangsIsEndedAndToldOf(t *testing.T) {
	table := &Table{nft: bounded{Interface: hanging{knftables.NewFake(knftables.InetFamily, tableName)}, runFor: time.Millisecond}}
	_, err := table.Owned(t.Context())
	for name, err := range map[string]error{"Owned": err, "Delete": table.Delete(t.Context())} {
		if !errors.Is(err, errKilled) || !strings.Contains(err.Error(), "did not end within 1ms") {
			t.Errorf("%s: error %v does not say that the program was killed, and when", name, err)
		}
	}
}

func TestAProgramWhoseCallerGivesUpIsNotBlamed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	table := &Table{nft: bounded{Interface: hanging{}, runFor: time.Hour}}
	if _, err := table.Owned(ctx); !errors.Is(err, errKilled) || strings.Contains(err.Error(), "did not end") {
		t.Errorf("error %v, want the program's own", err)
	}
}
