package convert

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"k8s.io/apimachinery/pkg/util/validation"
)

// schema is the part of a CRD's schema (OpenAPI v3) that ours use, but for the rules in CEL.
type schema struct {
	Type                 string
	Properties           map[string]*schema
	AdditionalProperties *schema
	Items                *schema
	Required             []string
	Enum                 []string
	MinItems, MaxItems   *int
	MinLength, MaxLength *int
	Minimum, Maximum     *float64
	ListType             string `json:"x-kubernetes-list-type"`
}

// checkSchema checks a document against manifests/crds.
func checkSchema(t *testing.T, plural, document string) {
	t.Helper()
	text, err := os.ReadFile("../../manifests/crds/fairlead.dev_" + plural + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct{ OpenAPIV3Schema *schema }
			}
		}
	}
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := yaml.Unmarshal([]byte(document), &object); err != nil {
		t.Fatal(err)
	}
	meta, _ := object["metadata"].(map[string]any)
	for field, value := range meta {
		if field != "name" {
			t.Errorf("metadata.%s is %v", field, value)
		}
	}
	if name, _ := meta["name"].(string); len(validation.IsDNS1123Subdomain(name)) > 0 {
		t.Errorf("no object can be named %q", name)
	}
	delete(object, "metadata")
	for _, problem := range crd.Spec.Versions[0].Schema.OpenAPIV3Schema.check(plural, object) {
		t.Error(problem)
	}
}

func (s *schema) check(path string, value any) (problems []string) {
	fail := func(format string, args ...any) { problems = append(problems, path+": "+fmt.Sprintf(format, args...)) }
	outside := func(size int, least, most *int) bool {
		return least != nil && size < *least || most != nil && size > *most
	}
	switch v := value.(type) {
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok && name != "metadata" {
				fail("%s is missing", name)
			}
		}
		for name, field := range v {
			known := s.Properties[name]
			if known == nil {
				known = s.AdditionalProperties
			}
			if known == nil {
				fail("%s is unknown", name)
				continue
			}
			problems = append(problems, known.check(path+"."+name, field)...)
		}
	case []any:
		if outside(len(v), s.MinItems, s.MaxItems) {
			fail("has %d items", len(v))
		}
		for i, item := range v {
			if s.ListType == "set" && slices.Contains(v[:i], item) {
				fail("has %v twice", item)
			}
			problems = append(problems, s.Items.check(fmt.Sprintf("%s[%d]", path, i), item)...)
		}
	case string:
		if s.Type != "string" || outside(len(v), s.MinLength, s.MaxLength) || len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			fail("is %q", v)
		}
	case float64:
		if s.Type != "integer" || s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			fail("is %v", v)
		}
	case bool:
		if s.Type != "boolean" {
			fail("is %v", v)
		}
	default:
		fail("is %T", v)
	}
	return problems
}
