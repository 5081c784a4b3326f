package driver

import (
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/e2e/cluster"
	"github.com/fairlead/fairlead/e2e/lab/control"
	"github.com/fairlead/fairlead/e2e/lab/machine"
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
	plane, err := control.New(t.TempDir(), "/kubernetes", topology.Families{V4: true}, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &Driver{plane: plane, dir: &runDir{path: "/run-dir"}, config: Config{Env: []string{
		"PATH=/bin", "HOME=/root", "KUBECONFIG=/other", "https_proxy=http://proxy", "HTTP_PROXY=x", "GOFLAGS=-mod=mod", "FAIRLEAD_LAB=/old",
	}}}
	env := d.commandEnv()
	slices.Sort(env)
	want := []string{
		"FAIRLEAD_LAB=/run-dir/state/lab.sock", "FAIRLEAD_LAB_LOGS=/run-dir/logs", "GOFLAGS=-mod=mod", "HOME=/root",
		"KUBECONFIG=" + plane.AdminKubeconfig(), "PATH=/run-dir/bin:/bin",
	}
	if !slices.Equal(env, want) {
		t.Errorf("got %q, want %q", env, want)
	}
}

func TestGuestsOfTwoRunsDoNotShareAProcessor(t *testing.T) {
	registry := t.TempDir()
	var usable unix.CPUSet
	if err := unix.SchedGetaffinity(0, &usable); err != nil {
		t.Fatal(err)
	}
	taken := map[int]bool{}
	for run := range usable.Count() + 1 {
		processors, lock, err := takeProcessor(registry)
		if err != nil {
			t.Fatal(err)
		}
		if none := run == usable.Count() || usable.Count() == 1; none != (processors == nil) {
			t.Fatalf("run %d of %d processors got %v", run, usable.Count(), processors)
		}
		for _, processor := range processors {
			if taken[processor] || !usable.IsSet(processor) {
				t.Errorf("run %d got processor %d, taken: %v", run, processor, taken)
			}
			taken[processor] = true
		}
		defer func() { _ = lock.Close() }()
	}
}

func TestASecondClusterHasFilesOfItsOwnAndTheProgramsOfTheFirst(t *testing.T) {
	first := &runDir{path: t.TempDir()}
	second, err := first.inner("second")
	if err != nil {
		t.Fatal(err)
	}
	for _, paths := range [][2]string{
		{first.file("admin.kubeconfig"), second.file("admin.kubeconfig")}, {first.log("etcd"), second.log("etcd")},
		{first.socket(), second.socket()},
	} {
		if paths[0] == paths[1] || !strings.HasPrefix(paths[1], first.path) || !exists(filepath.Dir(paths[1])) {
			t.Errorf("the first has %s, the second %s", paths[0], paths[1])
		}
	}
	if first.bin() != second.bin() {
		t.Errorf("the programs are in %s and in %s", first.bin(), second.bin())
	}
}

func TestASecondClusterThatCannotBeIsRefused(t *testing.T) {
	good := Config{Nodes: 3, Product: ProductFairlead}
	for name, c := range map[string]struct {
		lab   *Driver
		nodes int
		want  string
	}{
		"no nodes":            {&Driver{config: good}, 0, "want 1 to 247"},
		"too many nodes":      {&Driver{config: good}, 248, "want 1 to 247"},
		"there is one":        {&Driver{config: good, second: &Driver{}}, 2, "lab second delete"},
		"asked of the second": {&Driver{config: good, before: counts{nodes: 3}}, 2, "ask the first"},
		"without the product": {&Driver{config: Config{Nodes: 3, Product: ProductNone}}, 2, "--product none"},
	} {
		if _, err := c.lab.addSecond(t.Context(), c.nodes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestNodesAndControllersAreCountedFromThoseOfOtherClusters(t *testing.T) {
	first := &Driver{config: Config{Nodes: 3}}
	second := &Driver{config: Config{Nodes: 2}, before: counts{nodes: 3, controllers: 2}}
	if got := first.nodeNumbers(); !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("the first has nodes %v", got)
	}
	if got := second.nodeNumbers(); !slices.Equal(got, []int{4, 5}) {
		t.Errorf("the second has nodes %v", got)
	}
	second.controllers = []*service{{command: machine.Command{Host: "fairlead-controller-2"}}}
	second.config.Families = topology.Families{V4: true}
	for _, host := range second.hosts() {
		if want := "172.30.128.10"; host.Role == cluster.RoleController && host.Addresses[0].String() != want {
			t.Errorf("%s has %v, want %s", host.Name, host.Addresses, want)
		}
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
