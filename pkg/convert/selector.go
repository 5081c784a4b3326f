package convert

import (
	"cmp"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// terms are the requirements of a label selector, all of which an object must meet, in one order and without repetition, so
// that equal ones compare equal.
type terms []metav1.LabelSelectorRequirement

func termsOf(selector metav1.LabelSelector) terms {
	var out terms
	for key, value := range selector.MatchLabels {
		out = append(out, metav1.LabelSelectorRequirement{Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{value}})
	}
	for _, r := range selector.MatchExpressions {
		r.Values = sortedSet(r.Values)
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b metav1.LabelSelectorRequirement) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Operator, b.Operator), slices.Compare(a.Values, b.Values))
	})
	return slices.CompactFunc(out, sameTerm)
}

func sortedSet(values []string) []string { return slices.Compact(slices.Sorted(slices.Values(values))) }

func sameTerm(a, b metav1.LabelSelectorRequirement) bool { return reflect.DeepEqual(a, b) }

// without lists the terms that are not among others.
func (t terms) without(others terms) terms {
	return slices.DeleteFunc(slices.Clone(t), func(r metav1.LabelSelectorRequirement) bool {
		return slices.ContainsFunc(others, func(o metav1.LabelSelectorRequirement) bool { return sameTerm(r, o) })
	})
}

// implies reports whether whatever meets t meets the others too. It knows only the plain case: t has all of their terms.
func (t terms) implies(others terms) bool { return len(others.without(t)) == 0 }

// or makes the one selector that matches what either matches, if they differ only in the values of one In.
func (t terms) or(other terms) (terms, bool) {
	mine, theirs := t.without(other), other.without(t)
	if len(mine) != 1 || len(theirs) != 1 || mine[0].Key != theirs[0].Key ||
		mine[0].Operator != metav1.LabelSelectorOpIn || theirs[0].Operator != metav1.LabelSelectorOpIn {
		return nil, false
	}
	union := mine[0]
	union.Values = slices.Concat(mine[0].Values, theirs[0].Values)
	return termsOf(metav1.LabelSelector{MatchExpressions: append(t.without(mine), union)}), true
}

// selector writes terms as a person would: a single value as a label.
func (t terms) selector() *metav1.LabelSelector {
	if len(t) == 0 {
		return nil
	}
	out := &metav1.LabelSelector{}
	for _, r := range t {
		if _, twice := out.MatchLabels[r.Key]; r.Operator == metav1.LabelSelectorOpIn && len(r.Values) == 1 && !twice {
			metav1.AddLabelToSelector(out, r.Key, r.Values[0])
			continue
		}
		out.MatchExpressions = append(out.MatchExpressions, r)
	}
	return out
}

// anyOf makes one selector of several of which one is enough; nil matches everything. Where one cannot say it, it is the first
// of them, and exact is false.
func anyOf(selectors []metav1.LabelSelector) (selector *metav1.LabelSelector, exact bool) {
	var all []terms
	for _, s := range selectors {
		all = append(all, termsOf(s))
	}
	for merged := true; merged; {
		all, merged = mergeOne(all)
	}
	if len(all) == 0 {
		return nil, true
	}
	return all[0].selector(), len(all) == 1
}

// mergeOne replaces the first two that can be one.
func mergeOne(all []terms) ([]terms, bool) {
	for i := range all {
		for j := i + 1; j < len(all); j++ {
			union, ok := all[i].or(all[j])
			switch {
			case all[j].implies(all[i]):
				union, ok = all[i], true
			case all[i].implies(all[j]):
				union, ok = all[j], true
			}
			if ok {
				all = slices.Delete(slices.Clone(all), j, j+1)
				all[i] = union
				return all, true
			}
		}
	}
	return all, false
}
