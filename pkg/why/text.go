package why

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Write writes the answer for people: the sentence that matters, and then a line or more for each question. What there is
// nothing to say of is left out.
func (a Answer) Write(w io.Writer) error {
	var b strings.Builder
	b.WriteString(a.Summary + "\n\n")
	for _, section := range []struct {
		title string
		lines []string
	}{
		{"Problems", each(a.Problems, func(p Problem) string {
			return fmt.Sprintf("%s, for %s: %s", p.Reason, a.ago(p.Since), p.Message)
		})},
		{"Services", one(strings.Join(a.Services, ", "))},
		{"Pool", one(a.Pool)},
		{"Backends", one(a.backends())},
		{"Held by", one(a.heldBy())},
		{"Moved", one(a.moved())},
		{"Move to", one(a.moveTo())},
		{a.nextTitle(), one(a.next())},
		{"Preferred", one(a.preferred())},
		{"Not on", each(a.Excluded, Exclusion.String)},
		{"Speakers", each(a.ailing(), Exclusion.String)},
		{"Events", each(a.Events, func(e Event) string {
			times := ""
			if e.Count > 1 {
				times = fmt.Sprintf(" (%d times)", e.Count)
			}
			return fmt.Sprintf("%s ago  %s: %s%s", a.ago(e.At), e.Reason, e.Message, times)
		})},
		{"Not read", a.Unread},
	} {
		title := section.title + ":"
		for _, line := range section.lines {
			fmt.Fprintf(&b, "%-12s%s\n", title, line)
			title = ""
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (e Exclusion) String() string { return e.Node + ": " + e.Reason }

func one(line string) []string {
	if line == "" {
		return nil
	}
	return []string{line}
}

func each[T any](all []T, text func(T) string) (out []string) {
	for _, item := range all {
		out = append(out, text(item))
	}
	return out
}

// ago is how long ago something was. Some times are by clocks of nodes, which may be ahead.
func (a Answer) ago(at metav1.Time) string { return duration.HumanDuration(max(0, a.now.Sub(at.Time))) }

func (a Answer) backends() string {
	if a.Backends == "" {
		return ""
	}
	return a.Backends + " ready"
}

func (a Answer) heldBy() string {
	switch {
	case a.Node == "":
		return "nobody"
	case a.Since == nil:
		return a.Node
	}
	return fmt.Sprintf("%s on %s, for %s", a.Node, a.Interface, a.ago(*a.Since))
}

func (a Answer) moved() string {
	if a.Moved == nil {
		return ""
	}
	text := "to " + a.Moved.To
	if a.Moved.From != "" {
		text = "from " + a.Moved.From + " " + text
	}
	if a.Moved.At != nil {
		text += ", " + a.ago(*a.Moved.At) + " ago"
	}
	if a.Moved.Reason != "" {
		text += ": " + a.Moved.Reason
	}
	return text
}

func (a Answer) moveTo() string {
	switch {
	case a.MoveTo == nil:
		return ""
	case a.MoveTo.Refused != "":
		return fmt.Sprintf("%s, which may not hold it: %s", a.MoveTo.Node, a.MoveTo.Refused)
	case a.MoveTo.Node == a.Node:
		return a.MoveTo.Node + ", where it is"
	}
	return a.MoveTo.Node + ", to which its holder is to hand it over"
}

func (a Answer) nextTitle() string {
	if a.Node == "" {
		return "To take it"
	}
	return "Next"
}

// next are the candidates in their order; that there is none is worth a line only if others are told of.
func (a Answer) next() string {
	if len(a.Next) == 0 {
		if len(a.Excluded) == 0 {
			return ""
		}
		return "nobody"
	}
	return strings.Join(each(a.Next, func(c Candidate) string {
		if c.Against != "" {
			return fmt.Sprintf("%s (%s)", c.Node, c.Against)
		}
		return c.Node
	}), ", then ")
}

func (a Answer) preferred() string {
	return strings.Join(each(slices.Sorted(maps.Keys(a.Preferred)), func(node string) string {
		return fmt.Sprintf("%s (weight %d)", node, a.Preferred[node])
	}), ", ")
}

// ailing are the speakers of which nothing else says what is the matter with them.
func (a Answer) ailing() (out []Exclusion) {
	for _, speaker := range a.Speakers {
		if !slices.Contains(a.Excluded, speaker) {
			out = append(out, speaker)
		}
	}
	return out
}
