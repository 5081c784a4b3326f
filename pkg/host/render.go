package host

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// Missing returns the findings that need somebody.
func Missing(findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.State != NeedsYou })
}

// Render returns the findings as a table: what it is, its state, what it is needed for, and below those that are not OK what
// was found and what helps.
func Render(findings []Finding) string {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ITEM\tSTATE\tWHY")
	for _, f := range findings {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.What, f.State, f.Why)
	}
	_ = w.Flush() // a Builder takes everything
	lines := strings.Split(strings.TrimSuffix(table.String(), "\n"), "\n")
	var out strings.Builder
	fmt.Fprintln(&out, strings.TrimRight(lines[0], " "))
	for i, f := range findings {
		fmt.Fprintln(&out, strings.TrimRight(lines[i+1], " "))
		if f.Detail != "" {
			fmt.Fprintf(&out, "    found:  %s\n", f.Detail)
		}
		if f.Remedy != "" && (f.State == NeedsYou || f.State == Note) {
			fmt.Fprintf(&out, "    remedy: %s\n", f.Remedy)
		}
	}
	return out.String()
}
