package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// stepTimeout bounds one step of the story; each takes seconds.
const stepTimeout = 2 * time.Minute

// story writes what happens for a person who watches.
type story struct {
	out     io.Writer
	steps   int
	step    string
	figures []string
}

func (s *story) begin(title string) {
	s.steps++
	s.step = title
	fmt.Fprintf(s.out, "\n%d. %s%s\n", s.steps, strings.ToUpper(title[:1]), title[1:])
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, "   "+format+"\n", args...) }

// figure keeps a number of milliseconds for the last line.
func (s *story) figure(name string, milliseconds float64) {
	s.figures = append(s.figures, fmt.Sprintf("%s=%.0f", name, milliseconds))
}

// show writes the output of a command under the command.
func (s *story) show(command, output string) {
	s.say("$ %s", command)
	for line := range strings.Lines(strings.TrimRight(output, "\n") + "\n") {
		fmt.Fprintf(s.out, "     %s", line)
	}
}

// kubectl runs kubectl and shows it.
func (s *story) kubectl(ctx context.Context, args ...string) error {
	output, err := kubectl(ctx, "", args...)
	if err != nil {
		return err
	}
	s.show("kubectl "+strings.Join(args, " "), output)
	return nil
}

func kubectl(ctx context.Context, input string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	command := exec.CommandContext(ctx, "kubectl", args...)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &out, &errs
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}
