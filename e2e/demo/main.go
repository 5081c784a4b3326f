// Command demo shows Fairlead at work in the lab: make demo runs it. It creates a pool and a Service, asks it from a client,
// shows who holds the addresses, lets a speaker and a machine die, and cleans up. It ends with one line of figures.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/scenario"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	story := &story{out: os.Stdout}
	if err := tell(ctx, story); err != nil {
		fmt.Printf("\ndemo: FAILED: %s: %v (logs: %s)\n", story.step, err, os.Getenv("FAIRLEAD_LAB_LOGS"))
		return 1
	}
	fmt.Printf("\ndemo: ok %s\n", strings.Join(story.figures, " "))
	return 0
}

func tell(ctx context.Context, story *story) error {
	lab, err := cluster.NewLab()
	if err != nil {
		return err
	}
	s, err := scenario.New(lab)
	if err != nil {
		return err
	}
	play := &play{Scenario: s, story: story}
	for _, step := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"the cluster", play.showCluster},
		{"two web servers run as pods", play.addPods},
		{"a pool of addresses, and a Service of type LoadBalancer", play.createService},
		{"a client outside the cluster asks both addresses", play.ask},
		{"who holds the addresses, and what is on that node", play.showHolders},
		{"the speaker of a holder is killed (SIGKILL)", play.killSpeaker},
		{"a holder loses power", play.powerOff},
		{"the Service is deleted", play.deleteService},
	} {
		story.begin(step.title)
		limited, cancel := context.WithTimeoutCause(ctx, stepTimeout, fmt.Errorf("gave up after %v", stepTimeout))
		err := step.do(limited)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
