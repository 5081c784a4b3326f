package driver

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/e2e/lab/control"
	"github.com/fairlead/fairlead/e2e/lab/topology"
)

func TestValidate(t *testing.T) {
	good := Config{Nodes: 3, Product: ProductNone, Command: []string{"true"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*Config){
		"no command":       func(c *Config) { c.Command = nil },
		"no nodes":         func(c *Config) { c.Nodes = 0 },
		"too many nodes":   func(c *Config) { c.Nodes = topology.MaxNodes + 1 },
		"unknown product":  func(c *Config) { c.Product = "other" },
		"no product named": func(c *Config) { c.Product = "" },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCommandEnvironment(t *testing.T) {
	plane, err := control.New(t.TempDir(), "/kubernetes", topology.Families{V4: true})
	if err != nil {
		t.Fatal(err)
	}
	d := &Driver{plane: plane, dir: &runDir{path: "/run-dir"}, config: Config{Env: []string{
		"PATH=/bin", "HOME=/root", "KUBECONFIG=/other", "https_proxy=http://proxy", "HTTP_PROXY=x", "GOFLAGS=-mod=mod", "FAIRLEAD_LAB=/old",
	}}}
	env := d.commandEnv()
	slices.Sort(env)
	want := []string{
		"FAIRLEAD_LAB=/run-dir/lab.sock", "FAIRLEAD_LAB_LOGS=/run-dir/logs", "GOFLAGS=-mod=mod", "HOME=/root",
		"KUBECONFIG=" + plane.AdminKubeconfig(), "PATH=/run-dir/bin:/bin",
	}
	if !slices.Equal(env, want) {
		t.Errorf("got %q, want %q", env, want)
	}
}

func TestAPIRulesNameEveryAddressOfTheAPIServerBothWays(t *testing.T) {
	d := &Driver{config: Config{Families: topology.Families{V4: true, V6: true}}}
	text, err := io.ReadAll(d.apiRules())
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []string{"ip saddr 172.30.0.1 drop", "ip daddr 172.30.0.1 drop", "ip6 saddr fd30::1 drop", "ip6 daddr fd30::1 drop"} {
		if strings.Count(string(text), rule) != 2 {
			t.Errorf("%q is not there twice (forwarded, and in or out):\n%s", rule, text)
		}
	}
}

func TestOutputIsLimited(t *testing.T) {
	var l limited
	big := make([]byte, maxOutput)
	for range 3 {
		if n, err := l.Write(big); n != len(big) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if len(l.String()) != maxOutput {
		t.Errorf("%d bytes are kept", len(l.String()))
	}
}
