package convert

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// FuzzConvert feeds arbitrary text: it must not panic, and what it makes must be acceptable.
func FuzzConvert(f *testing.F) {
	// The inputs of the tables are the seeds.
	inputs := regexp.MustCompile("(?s)input: `([^`]*)`")
	for _, file := range []string{"convert_test.go", "metallb_test.go", "metallb_l2_test.go", "kubevip_test.go", "purelb_test.go",
		"inwinstack_test.go", "keepalived_test.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, match := range inputs.FindAllSubmatch(text, -1) {
			f.Add(match[1])
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		result, err := Convert(Input{"the fuzzer", text})
		if err != nil {
			if !result.Empty() {
				t.Errorf("%v, and a result", err)
			}
			return
		}
		for _, note := range result.Notes {
			if strings.ContainsAny(note.String(), "\n\r\x1b") {
				t.Errorf("%q is more than a line", note)
			}
		}
		checkAcceptable(t, result)
	})
}
