package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/why"
)

const moveLong = `Has the node that holds a VIP hand it over to another, make before break, and waits until that one announces it. Of a
Service all VIPs are moved, one after the other.

It says why if the node may not hold the VIP. It works by annotation fairlead.dev/move-to of the VIP, which it takes
away again in the end, whatever came of it. The VIP stays where it is then until something else moves it.

It ends with 0 once all VIPs are there, with 1 if one is not, and with 2 if it cannot tell.`

// Of moves.
const (
	// moveTimeout is the default of --timeout. A holder hands over within a second.
	moveTimeout = 30 * time.Second
	pollEvery   = 200 * time.Millisecond
	// undoTimeout is how long it may take to remove the annotation after all.
	undoTimeout = 10 * time.Second
)

func moveCommand(to *connection) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "move VIP|NAMESPACE/SERVICE NODE",
		Short:   "Moves a VIP to a node",
		Long:    moveLong,
		Example: "  kubectl fairlead move 192.0.2.10 n3",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return interruptible(cmd, func(ctx context.Context) error { return runMove(ctx, cmd.OutOrStdout(), to, args[0], args[1], timeout) })
		},
	}
	to.addFlags(cmd.Flags())
	cmd.Flags().DurationVar(&timeout, "timeout", moveTimeout, "how long to wait for a VIP to be there")
	return cmd
}

// interruptible runs with a context that ends when the user interrupts the program, so that it can still tidy up.
func interruptible(cmd *cobra.Command, run func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx)
}

func runMove(ctx context.Context, out io.Writer, to *connection, arg, node string, timeout time.Duration) error {
	facts, names, err := to.ask(ctx, arg)
	if err != nil {
		return err
	}
	mover := mover{to: to, cluster: why.New(facts), out: out, timeout: timeout}
	if err := mover.mayRead(facts); err != nil {
		return err
	}
	for _, name := range names { // none moves unless all may
		if err := mover.cluster.Movable(mover.cluster.VIP(name), node); err != nil {
			return &ended{statusBad, err}
		}
	}
	for _, name := range names {
		if err := mover.move(ctx, name, node); err != nil {
			return err
		}
	}
	return nil
}

// mover hands VIPs over.
type mover struct {
	to      *connection
	cluster *why.Cluster
	out     io.Writer
	timeout time.Duration
}

// mayRead returns an error if anything could not be read: nothing is moved without knowing all.
func (m *mover) mayRead(facts why.Facts) error {
	if len(facts.Unread) > 0 {
		return errors.New("nothing was moved, because not all could be read: " + strings.Join(facts.Unread, "; "))
	}
	return nil
}

// move hands a VIP over and tells of it. The annotation goes in any case.
func (m *mover) move(ctx context.Context, name, node string) (err error) {
	vip, err := m.get(ctx, name)
	if err != nil {
		return err
	}
	addr, from := vip.Spec.Address, cmp.Or(vip.Status.Node, m.cluster.Owner(name))
	if err := m.cluster.Movable(vip, node); err != nil {
		return &ended{statusBad, err}
	}
	if vip.Status.Node == node {
		fmt.Fprintf(m.out, "%s is on %s already\n", addr, node)
		return nil
	}
	defer func() { err = errors.Join(err, m.undo(context.WithoutCancel(ctx), name, node)) }()
	started := time.Now()
	if err := m.ask(ctx, name, node); err != nil {
		return err
	}
	if err := m.wait(ctx, name, node); err != nil {
		return &ended{statusBad, fmt.Errorf("%s did not move from %s to %s: %w; kubectl fairlead why %s tells where it is",
			addr, from, node, err, addr)}
	}
	fmt.Fprintf(m.out, "%s moved from %s to %s in %s\n", addr, from, node, time.Since(started).Round(100*time.Millisecond))
	return nil
}

func (m *mover) get(ctx context.Context, name string) (*v1alpha1.VIP, error) {
	vip, err := m.to.clients.Fairlead.FairleadV1alpha1().VIPs().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read VIP %s: %w", name, err)
	}
	return vip, nil
}

func (m *mover) ask(ctx context.Context, name, node string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationMoveTo: node}}})
	if err != nil {
		return err
	}
	_, err = m.to.clients.Fairlead.FairleadV1alpha1().VIPs().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("ask for VIP %s to move: %w", name, err)
	}
	return nil
}

// wait waits until a node says that it announces a VIP.
func (m *mover) wait(ctx context.Context, name, node string) error {
	limited, cancel := context.WithTimeoutCause(ctx, m.timeout, fmt.Errorf("waited for %s", m.timeout))
	defer cancel()
	var failed error
	for {
		if vip, err := m.get(limited, name); err == nil && vip.Status.Node == node {
			return nil
		} else if apierrors.IsNotFound(err) {
			return err
		} else if err != nil && limited.Err() == nil {
			failed = err
		}
		select {
		case <-limited.Done():
			return errors.Join(context.Cause(limited), failed)
		case <-time.After(pollEvery):
		}
	}
}

// undo removes the annotation, unless somebody else changed it meanwhile.
func (m *mover) undo(ctx context.Context, name, node string) error {
	ctx, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	path := "/metadata/annotations/" + strings.ReplaceAll(v1alpha1.AnnotationMoveTo, "/", "~1")
	patch, err := json.Marshal([]map[string]string{{"op": "test", "path": path, "value": node}, {"op": "remove", "path": path}})
	if err != nil {
		return err
	}
	_, err = m.to.clients.Fairlead.FairleadV1alpha1().VIPs().Patch(ctx, name, types.JSONPatchType, patch, metav1.PatchOptions{})
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	if vip, again := m.get(ctx, name); again == nil && vip.Annotations[v1alpha1.AnnotationMoveTo] != node {
		return nil
	}
	return fmt.Errorf("VIP %s keeps annotation %s=%s, and goes to that node whenever it can: remove it by kubectl annotate vip %s %s-: %w",
		name, v1alpha1.AnnotationMoveTo, node, name, v1alpha1.AnnotationMoveTo, err)
}
