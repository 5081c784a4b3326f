package convert

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead/fairlead/pkg/api/v1alpha1"
	"github.com/fairlead/fairlead/pkg/pool"
	"github.com/fairlead/fairlead/pkg/source"
)

// testCase is an input with what it becomes. Texts begin with a line break.
type testCase struct {
	name  string
	input string
	want  string
	notes []string
}

func runCases(t *testing.T, cases []testCase) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			result, err := Convert(Input{Name: "the test", YAML: []byte(tc.input)})
			if err != nil {
				t.Fatal(err)
			}
			text, err := result.YAML()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(tc.want, "\n"), string(text)); diff != "" {
				t.Error(diff)
			}
			var notes []string
			for _, note := range result.Notes {
				notes = append(notes, note.String())
			}
			if diff := cmp.Diff(tc.notes, notes); diff != "" {
				t.Error(diff)
			}
			checkAcceptable(t, result)
		})
	}
}

// checkAcceptable fails for objects that an API server would refuse, or the controller.
func checkAcceptable(t *testing.T, result Result) {
	t.Helper()
	documents, err := result.documents()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range documents {
		document := string(text)
		var kind struct{ Kind string }
		if err := yaml.Unmarshal(text, &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.Kind {
		case "IPPool":
			checkSchema(t, "ippools", document)
			var p v1alpha1.IPPool
			err = yaml.UnmarshalStrict(text, &p)
			for _, entry := range append(p.Spec.Addresses, p.Spec.Exclude...) {
				if _, err := pool.ParseRange(string(entry)); err != nil {
					t.Error(err)
				}
				if strings.ContainsAny(string(entry), " ") {
					t.Errorf("%q has a space, which the schema refuses", entry)
				}
			}
		case "VIP":
			checkSchema(t, "vips", document)
			var v v1alpha1.VIP
			err = yaml.UnmarshalStrict(text, &v)
			if addr, parseErr := source.ParseVIPName(v.Name); parseErr == nil {
				t.Errorf("claim %s is a reservation of %s", v.Name, addr)
			}
		case "ConfigMap":
			var m corev1.ConfigMap
			err = yaml.UnmarshalStrict(text, &m)
			for key := range m.Data {
				if _, err := source.ParseVIPName(key); err != nil {
					t.Error(err)
				}
			}
		default:
			t.Errorf("made a %s", kind.Kind)
		}
		if err != nil {
			t.Errorf("%v in\n%s", err, document)
		}
	}
}
