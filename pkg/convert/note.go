package convert

import (
	"fmt"
	"strings"
	"unicode"
)

// Note tells what of the input has no equivalent or needs a person. Empty parts are left out of its text.
type Note struct {
	Object  string // kind/namespace/name, or kind/name
	Field   string // path in the object
	Value   string
	Problem string
	Remedy  string
}

// valueLength is how much of a value a note shows: enough to find it, on one line of a terminal.
const valueLength = 80

// String is one line: object: field "value" problem: remedy.
func (n Note) String() string {
	var b strings.Builder
	if n.Object != "" {
		b.WriteString(n.Object + ": ")
	}
	if n.Field != "" {
		b.WriteString(n.Field + " ")
	}
	if n.Value != "" {
		fmt.Fprintf(&b, "%q ", shorten(n.Value))
	}
	b.WriteString(n.Problem)
	if n.Remedy != "" {
		b.WriteString(": " + n.Remedy)
	}
	// Names come from files: none may end the line or command the terminal.
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, b.String())
}

func shorten(value string) string {
	runes := []rune(value)
	if len(runes) <= valueLength {
		return value
	}
	return string(runes[:valueLength]) + "…"
}
