package convert

import (
	"math/rand/v2"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func parse(t *testing.T, text string) metav1.LabelSelector {
	t.Helper()
	selector, err := metav1.ParseToLabelSelector(text)
	if err != nil {
		t.Fatal(err)
	}
	return *selector
}

func TestAnyOf(t *testing.T) {
	for _, tc := range []struct {
		name      string
		selectors []string
		want      string
		inexact   bool
	}{
		{name: "none", want: ""},
		{name: "one", selectors: []string{"a=1,b notin (2)"}, want: "a=1,b notin (2)"},
		{name: "twice the same", selectors: []string{"a=1", "a in (1)"}, want: "a=1"},
		{name: "values of one label", selectors: []string{"a=1", "a=2", "a in (3,1)"}, want: "a in (1,2,3)"},
		{name: "values of one label, all else equal", selectors: []string{"b,a=1", "a=2,b"}, want: "a in (1,2),b"},
		{name: "one is part of the other", selectors: []string{"a=1,b=2", "a=1"}, want: "a=1"},
		{name: "one matches everything", selectors: []string{"a=1", ""}, want: ""},
		{name: "two labels", selectors: []string{"a=1", "b=1"}, want: "a=1", inexact: true},
		{name: "two labels differ", selectors: []string{"a=1,b=1", "a=2,b=2"}, want: "a=1,b=1", inexact: true},
		{name: "a value and none", selectors: []string{"a=1", "!a"}, want: "a=1", inexact: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var selectors []metav1.LabelSelector
			for _, text := range tc.selectors {
				selectors = append(selectors, parse(t, text))
			}
			got, exact := anyOf(selectors)
			want := ""
			if got != nil {
				want = metav1.FormatLabelSelector(got)
			}
			if want != tc.want || exact == tc.inexact {
				t.Errorf("%q, exact %v", want, exact)
			}
		})
	}
}

// An exact selector matches what any of its parts does; one that is not never matches more.
func TestAnyOfMatchesWhatItsPartsDo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	terms := []string{"a=1", "a=2", "a in (1,2)", "a notin (1)", "a", "!a", "b=1", "b in (1,3)", "b notin (1,2)"}
	exacts := 0
	for range 2000 {
		var parts []labels.Selector
		var selectors []metav1.LabelSelector
		for range 1 + random.IntN(3) {
			text := terms[random.IntN(len(terms))]
			if random.IntN(2) == 0 {
				text += "," + terms[random.IntN(len(terms))]
			}
			selectors = append(selectors, parse(t, text))
			part, err := metav1.LabelSelectorAsSelector(&selectors[len(selectors)-1])
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, part)
		}
		got, exact := anyOf(selectors)
		whole := labels.Everything()
		if got != nil {
			var err error
			if whole, err = metav1.LabelSelectorAsSelector(got); err != nil {
				t.Fatal(err)
			}
		}
		if exact {
			exacts++
		}
		for _, node := range []labels.Set{{}, {"a": "1"}, {"a": "2"}, {"a": "3"}, {"b": "1"}, {"b": "2"}, {"b": "3"},
			{"a": "1", "b": "1"}, {"a": "2", "b": "3"}, {"a": "1", "b": "2"}} {
			some := slices.ContainsFunc(parts, func(s labels.Selector) bool { return s.Matches(node) })
			if is := whole.Matches(node); is && !some || exact && is != some {
				t.Fatalf("%v: %v of %v is %v, exact %v", node, whole, parts, is, exact)
			}
		}
	}
	if exacts < 500 {
		t.Errorf("%d of 2000 are exact", exacts)
	}
}
