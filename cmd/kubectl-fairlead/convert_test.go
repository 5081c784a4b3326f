package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const pool = `apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: lan, namespace: metallb-system}
spec: {addresses: [192.0.2.0/28]}
`

const peer = `apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: router, namespace: metallb-system}
`

func TestConvert(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pool.yaml")
	if err := os.WriteFile(file, []byte(pool), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		args   []string
		in     string
		out    string // part of standard output; "" for nothing
		notes  string // part of standard error
		failed string // part of the error
	}{
		{name: "standard input", in: pool, out: "kind: IPPool"},
		{name: "standard input, named", args: []string{"-"}, in: pool, out: "kind: IPPool"},
		{name: "a file", args: []string{file}, out: "kind: IPPool"},
		{name: "a file and standard input", args: []string{file, "-"}, in: peer, out: "kind: IPPool", notes: "BGPPeer/metallb-system/router: has no equivalent"},
		{name: "a file that is not there", args: []string{file, file + "x"}, failed: "pool.yamlx"},
		{name: "nothing", failed: "standard input is empty"},
		{name: "nothing that can be converted", in: peer, notes: "has no equivalent", failed: "nothing to convert in standard input"},
		{name: "what cannot be read, after what can", in: pool + "---\na: [", failed: "document 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := command(&connection{})
			var out, notes bytes.Buffer
			cmd.SetIn(strings.NewReader(tc.in))
			cmd.SetOut(&out)
			cmd.SetErr(&notes)
			cmd.SetArgs(append([]string{"convert"}, tc.args...))
			err := cmd.Execute()
			if (err != nil) != (tc.failed != "") || err != nil && !strings.Contains(err.Error(), tc.failed) {
				t.Errorf("%v, want %q", err, tc.failed)
			}
			if (out.Len() > 0) != (tc.out != "") || !strings.Contains(out.String(), tc.out) {
				t.Errorf("wrote %q, want %q", out.String(), tc.out)
			}
			if (notes.Len() > 0) != (tc.notes != "") || !strings.Contains(notes.String(), tc.notes) {
				t.Errorf("noted %q, want %q", notes.String(), tc.notes)
			}
		})
	}
}

func TestHelpTeaches(t *testing.T) {
	cmd := command(&connection{})
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"convert", "--help"})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"kubectl fairlead convert [FILE|-]...", "| kubectl fairlead convert | kubectl apply -f -", "MetalLB", "inwinSTACK"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is missing in\n%s", part, out.String())
		}
	}
}
