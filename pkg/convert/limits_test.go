package convert

import (
	"fmt"
	"strings"
	"testing"
)

// hugePool writes an IPAddressPool with as many entries of each list as asked for.
func hugePool(addresses, namespaces int) string {
	var b strings.Builder
	b.WriteString("apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: huge}\nspec:\n  addresses:\n")
	for i := range addresses {
		fmt.Fprintf(&b, "  - 10.%d.%d.0/25\n", i/256, i%256)
	}
	b.WriteString("  - 192.0.2.0/28\n  serviceAllocation:\n    namespaces: [default]\n")
	if namespaces > 0 {
		b.WriteString("    namespaceSelectors:\n")
	}
	for i := range namespaces {
		fmt.Fprintf(&b, "    - matchLabels: {team: t%d}\n", i)
	}
	return b.String()
}

func TestLongListsAreNotCutShort(t *testing.T) {
	for _, tc := range []struct {
		name, input string
		pools       int
		says        string
	}{
		{"as many as a pool may have", hugePool(255, 16), 1, ""},
		{"too many ranges", hugePool(256, 0), 0, "has 257 ranges of addresses, and a pool may have 256"},
		{"too many selectors", hugePool(0, 17), 0, "has 17 namespace selectors, and a pool may have 16"},
		{"many ranges that touch", strings.ReplaceAll(hugePool(400, 0), ".0/25", ".0/24"), 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			result, err := Convert(Input{"the test", []byte(tc.input)})
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Pools) != tc.pools {
				t.Errorf("%d pools", len(result.Pools))
			}
			notes := fmt.Sprint(result.Notes)
			if tc.says == "" && len(result.Notes) > 0 || !strings.Contains(notes, tc.says) {
				t.Errorf("%s, want %q", notes, tc.says)
			}
			checkAcceptable(t, result)
		})
	}
}

func TestConvertRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, input string
		says        []string
	}{
		{"what is not YAML", "a: [", []string{"read the test, document 1"}},
		{"a second document that is not YAML", "---\n---\na: [", []string{"read the test, document 2"}},
		{"what is no object", "just text", []string{"document 1", "not a Kubernetes object"}},
		{"what has no kind", "apiVersion: v1", []string{"it has no kind"}},
		{"an item that is no object", "{kind: List, items: [{kind: A}, 1]}", []string{"items[1]", "not a Kubernetes object"}},
		{"a field of another shape", "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: lan}, spec: {addresses: all}}",
			[]string{"IPAddressPool/lan: spec", "addresses"}},
		{"a selector that is none", "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: l2}, " +
			"spec: {nodeSelectors: [{matchExpressions: [{key: a, operator: Near}]}]}}", []string{"L2Advertisement/l2: spec.nodeSelectors", "Near"}},
		{"a MetalLB ConfigMap that is not YAML", "{apiVersion: v1, kind: ConfigMap, metadata: {name: config, namespace: metallb-system}, " +
			"data: {config: 'a: ['}}", []string{"ConfigMap/metallb-system/config: data.config"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			result, err := Convert(Input{"the test", []byte(tc.input)})
			if err == nil || !result.Empty() {
				t.Fatalf("%v, %+v", err, result)
			}
			for _, part := range tc.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestConvertTakesInputsTogether(t *testing.T) {
	pools := "{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: lan}, spec: {addresses: [192.0.2.0/28]}}"
	advertisements := "{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: l2}, spec: {interfaces: [eth1]}}"
	result, err := Convert(Input{"one", []byte(advertisements)}, Input{"two", []byte(pools)})
	if err != nil {
		t.Fatal(err)
	}
	if len(result.Pools) != 1 || len(result.Pools[0].Spec.Interfaces) != 1 || len(result.Notes) > 0 {
		t.Errorf("%+v", result)
	}
}

func TestNotesAreLines(t *testing.T) {
	note := Note{"Pool/a\nb\x1b[2J", "spec.x", "v\n" + strings.Repeat("ä", 100), "is odd", "change it"}
	want := `Pool/a�b�[2J: spec.x "v\n` + strings.Repeat("ä", 78) + `…" is odd: change it`
	if note.String() != want {
		t.Errorf("%s, want %s", note, want)
	}
}
